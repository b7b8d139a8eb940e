package org.fedgate.harness

import java.io.File
import org.fedgate.core.ClientKey
import org.fedgate.core.FedgateException
import org.fedgate.core.Fields
import org.fedgate.core.TunePlan
import org.fedgate.core.TuneWatcher
import org.fedgate.core.canonicalJson
import org.fedgate.core.finetune
import org.fedgate.core.loadBundle
import org.fedgate.core.loadExamples
import org.fedgate.core.parseJson

/**
 * REQUESTS: a file with a JSON object in each line: bundle, data, out, epochs, lr, validation, stop: after how many
 * steps the user stops it, or 0, and client: a number or a key. Prints for each the result with each step's loss, or the message.
 */
object Tune {
    @JvmStatic
    fun main(arguments: Array<String>) {
        for (line in File(arguments[0]).readLines()) {
            val losses = ArrayList<Double>()
            val found = try {
                tune(Fields(parseJson(line.toByteArray(), "the request"), "the request"), losses)
            } catch (error: FedgateException) {
                mapOf("status" to error.status, "message" to error.message)
            }
            println(canonicalJson(found + mapOf("losses" to losses)))
        }
    }

    private fun tune(request: Fields, losses: MutableList<Double>): Map<String, Any?> {
        val bundle = loadBundle(File(request.text("bundle", 1000)))
        val client = request.text("client", 200)
        val key = if (ClientKey.isMeant(client)) ClientKey.parse(client) else null
        val plan = TunePlan(
            level = 0,
            epochs = request.int("epochs", 1, 100),
            lr = request.number("lr", 0.0, 1e9),
            seed = 3,
            validation = request.number("validation", 0.0, 1.0),
            patience = 1000,
            client = key?.client ?: client.toInt(),
            key = key,
        )
        val watcher = object : TuneWatcher {
            override fun step(epoch: Int, step: Int, loss: Double) {
                losses.add(loss)
            }
        }
        val examples = loadExamples(File(request.text("data", 1000)), bundle.manifest, JvmDevice())
        val stop = request.int("stop", 0, 1000)
        return finetune(bundle, examples, File(request.text("out", 1000)), plan, watcher) { stop in 1..losses.size }
    }
}
