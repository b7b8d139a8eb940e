package org.fedgate.demo

import android.content.ContentResolver
import android.net.Uri
import android.provider.DocumentsContract
import android.provider.DocumentsContract.Document
import java.io.FileNotFoundException
import java.io.InputStream
import org.fedgate.app.Entry
import org.fedgate.app.Tree
import org.fedgate.core.FedgateException
import org.fedgate.core.printable

/** What Android's own chooser of folders gives. */
class DocumentTree(private val resolver: ContentResolver, private val uri: Uri) : Tree {
    private val root: String = DocumentsContract.getTreeDocumentId(uri)
    override val name: String get() = printable(root.substringAfterLast(':').substringAfterLast('/').ifEmpty { root })

    override fun list(folder: Entry?): List<Entry> = reading(folder?.name ?: name) {
        val children = DocumentsContract.buildChildDocumentsUriUsingTree(uri, folder?.id ?: root)
        val columns = arrayOf(Document.COLUMN_DISPLAY_NAME, Document.COLUMN_DOCUMENT_ID, Document.COLUMN_MIME_TYPE)
        val found = mutableListOf<Entry>()
        val rows = resolver.query(children, columns, null, null, null)
            ?: throw FedgateException("cannot read ${printable(folder?.name ?: name)}: whoever keeps it gave no answer")
        rows.use {
            while (it.moveToNext()) {
                val file = it.getString(0) ?: continue
                found += Entry(file, it.getString(1), it.getString(2) == Document.MIME_TYPE_DIR)
            }
        }
        found.sortedBy { it.name }
    }

    override fun open(file: Entry): InputStream = reading(file.name) {
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
