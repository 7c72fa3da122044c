// Package jobs does what a request need not wait for: welcome e-mails, avatar
// images, counters, repairs of the cache.
//
// A job is enqueued in the transaction of the write that it belongs to, in the
// shard of that write, and done at least once after the transaction has
// committed: River (riverqueue.com) on PostgreSQL, and on SQLite in the embedded
// mode. What a handler does carries the job's Key, so that doing it again is
// noticed where it arrives.
//
// # How one job goes through
//
//	Queue.Enqueue(ctx, tx, Order)   with the write; Args.Check refuses what cannot be done
//	Worker.Run                      finds it, leases it, has a Handler do it
//	done, or again later            twice as long each time, give or take a quarter
//	dead                            after MaxAttempts: a DeadLetter, with its error
//
// A Queue is one shard's; a Worker does the jobs of any number of them, each queue
// with a concurrency of its own, so that slow images do not hold up e-mails. It may
// be in the service's process or apart (users worker); as many as one likes work
// together. A job whose worker died is somebody else's after the Lease.
//
// # What it promises
//
// No job without its write, no write without its job. A job that fails for ever
// holds up nobody: it waits between attempts and then lies with the dead, from where
// users jobs requeue takes it back. At least once is not exactly once: Mailer has the
// Key in Message-ID, Images writes the same files, counters count a key once.
//
// Args of a new kind are one type with Kind and Check, and one field of Handlers.
package jobs
