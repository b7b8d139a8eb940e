package org.fedgate.app

import java.util.concurrent.Executor
import java.util.concurrent.atomic.AtomicReference
import org.fedgate.core.CancelledException
import org.fedgate.core.FedgateException

/** How far a task is. */
sealed class State<out N, out R> {
    object Idle : State<Nothing, Nothing>()

    /** note: the last that the work told, null before it told any. */
    class Running<N>(val note: N?, val stopping: Boolean) : State<N, Nothing>()

    class Done<R>(val result: R) : State<Nothing, R>()

    class Failed(val message: String) : State<Nothing, Nothing>()
}

/** What work sees of its task; used from the worker's thread. */
interface Work<N> {
    val cancelled: Boolean

    /** Shows [note], unless a later one overtakes it. */
    fun tell(note: N)
}

/**
 * Work that outlives the screen that started it: after a rotation the new screen watches the same task.
 *
 * All tasks of the app share one worker, so that none disturbs another's measurement. Every method, and every call of
 * the watcher, belongs to the main thread.
 */
class Task<N, R>(private val worker: Executor, private val main: Executor) {
    var state: State<N, R> = State.Idle
        private set
    private var owner: Any? = null
    private var watcher: ((State<N, R>) -> Unit)? = null
    private var current: Current? = null

    /** Calls [watcher] now and after every change, in the place of whoever watched so far. */
    fun watch(owner: Any, watcher: (State<N, R>) -> Unit) {
        this.owner = owner
        this.watcher = watcher
        watcher(state)
    }

    /** Ends that; a screen that goes is told so after the next one has come, whose watcher stays. */
    fun unwatch(owner: Any) {
        if (this.owner === owner) watcher = null
    }

    /** Starts [work], and drops what an earlier one still does. */
    fun start(work: (Work<N>) -> R) {
        cancel()
        val mine = Current()
        current = mine
        become(State.Running(null, false))
        worker.execute {
            val end = outcome { if (mine.cancelled) throw CancelledException("stopped") else work(mine) }
            main.execute {
                if (current === mine) {
                    current = null
                    become(end)
                }
            }
        }
    }

    /** Asks the work to end; it is running until it does. */
    fun cancel() {
        val running = state as? State.Running<N> ?: return
        current?.cancelled = true
        become(State.Running(running.note, true))
    }

    /** Forgets the last result, and cancels what runs. */
    fun clear() {
        current?.cancelled = true
        current = null
        become(State.Idle)
    }

    private fun become(next: State<N, R>) {
        state = next
        watcher?.invoke(next)
    }

    private inner class Current : Work<N> {
        @Volatile
        override var cancelled = false
        private val latest = AtomicReference<N?>()

        override fun tell(note: N) {
            if (latest.getAndSet(note) != null) return // one that the screen has not seen yet is on its way
            main.execute {
                val newest = latest.getAndSet(null)
                if (current === this) become(State.Running(newest, cancelled))
            }
        }
    }
}

/** The end of [work], with everything that it may throw as a message. */
private fun <R> outcome(work: () -> R): State<Nothing, R> =
    try {
        State.Done(work())
    } catch (error: FedgateException) {
        State.Failed(error.message.orEmpty())
    } catch (error: OutOfMemoryError) {
        State.Failed("there is not enough memory")
    } catch (error: Exception) {
        State.Failed(error.toString())
    } catch (error: LinkageError) {
        State.Failed(error.toString())
    }
