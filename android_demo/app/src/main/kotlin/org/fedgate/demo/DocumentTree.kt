package org.fedgate.demo

import android.content.ContentResolver
import android.net.Uri
import android.provider.DocumentsContract
import android.provider.DocumentsContract.Document
import java.io.File
import java.io.FileNotFoundException
import java.io.InputStream
import org.fedgate.app.asFile
import org.fedgate.core.BY_CODE_POINT
import org.fedgate.core.FedgateException
import org.fedgate.core.Kind
import org.fedgate.core.Tree
import org.fedgate.core.TreeEntry
import org.fedgate.core.printable

/** What Android's own chooser of folders gives. Files are copied to [cache] while they are decoded. */
class DocumentTree(private val resolver: ContentResolver, private val uri: Uri, private val cache: File) : Tree {
    private val root: String = DocumentsContract.getTreeDocumentId(uri)
    override val name: String get() = printable(root.substringAfterLast(':').substringAfterLast('/').ifEmpty { root })

    override fun list(folder: TreeEntry?): List<TreeEntry> = reading(folder?.name ?: name) {
        val children = DocumentsContract.buildChildDocumentsUriUsingTree(uri, folder?.id ?: root)
        val columns = arrayOf(Document.COLUMN_DISPLAY_NAME, Document.COLUMN_DOCUMENT_ID, Document.COLUMN_MIME_TYPE)
        val found = mutableListOf<TreeEntry>()
        val rows = resolver.query(children, columns, null, null, null)
            ?: throw FedgateException("cannot read ${printable(folder?.name ?: name)}: whoever keeps it gave no answer")
        rows.use {
            while (it.moveToNext()) {
                val file = it.getString(0) ?: continue
                val id = it.getString(1) ?: continue
                found += TreeEntry(file, id, if (it.getString(2) == Document.MIME_TYPE_DIR) Kind.FOLDER else Kind.FILE)
            }
        }
        found.sortedWith { a, b -> BY_CODE_POINT.compare(a.name, b.name) }
    }

    override fun <T> withFile(file: TreeEntry, use: (File) -> T): T = asFile(cache, open(file), use)

    override fun open(file: TreeEntry): InputStream = reading(file.name) {
        resolver.openInputStream(DocumentsContract.buildDocumentUriUsingTree(uri, file.id))
            ?: throw FileNotFoundException(file.name)
    }
}

/** Runs what reads [name] from another app, which may fail in its own ways. */
fun <T> reading(name: String, read: () -> T): T {
    try {
        return read()
    } catch (error: FileNotFoundException) {
        throw FedgateException("cannot read ${printable(name)}: it is not there any more", error)
    } catch (error: SecurityException) {
        throw FedgateException("cannot read ${printable(name)}: choose it again, the permission has ended", error)
    } catch (error: IllegalArgumentException) {
        throw FedgateException("cannot read ${printable(name)}: ${printable(error.toString(), 160)}", error)
    }
}
