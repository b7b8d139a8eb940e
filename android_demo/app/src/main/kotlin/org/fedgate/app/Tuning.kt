package org.fedgate.app

import java.io.File
import org.fedgate.core.Bundle
import org.fedgate.core.ClientKey
import org.fedgate.core.Examples
import org.fedgate.core.TunePlan
import org.fedgate.core.canonicalJson
import org.fedgate.core.sha256

/**
 * The plan that a user's three fields say; client: its number or its key. Null where one is no number. Throws
 * `UsageException` out of range.
 */
fun tunePlan(level: Int, epochs: String, rate: String, client: String): TunePlan? {
    val key = if (ClientKey.isMeant(client)) ClientKey.parse(client) else null
    return TunePlan(
        level = level,
        epochs = epochs.toIntOrNull() ?: return null,
        lr = rate.toDoubleOrNull() ?: return null,
        client = key?.client ?: client.toIntOrNull() ?: return null,
        key = key,
        skipUnreadable = true,
    )
}

/**
 * The folder of a fine-tuning, by all that its result depends on: the same one goes on where it was stopped, and one
 * that was finished begins anew.
 */
fun tuningFolder(own: File, bundle: Bundle, examples: Examples, plan: TunePlan): File {
    val key = plan.toJson() + mapOf("bundle" to bundle.manifest.digest, "data" to examples.digest, "client" to plan.client)
    val folder = File(own, "tuned/${sha256(canonicalJson(key).toByteArray()).take(16)}")
    if (File(folder, "personal.safetensors").exists()) folder.deleteRecursively()
    return folder
}
