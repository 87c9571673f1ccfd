// Peer: BullMQ, one job per sale (its id is the externalId: a second one is refused), undici, 256 in flight.
//   node peer.js enqueue N        node peer.js worker
'use strict'
const { Queue, Worker } = require('bullmq')
const { Agent, request } = require('undici')

const url = new URL(process.env.BENCH_REDIS_URL)
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null }

async function enqueue(count) {
  const queue = new Queue('sales', { connection })
  const body = JSON.parse(process.env.BENCH_BODY)
  for (let first = 0; first < count; first += 500) {
    const jobs = []
    for (let number = first; number < Math.min(count, first + 500); number++) {
      const externalId = 'order-' + String(number).padStart(10, '0')
      jobs.push({
        name: 'deliver',
        data: { ...body, externalId },
        opts: { jobId: externalId, attempts: 20, backoff: { type: 'exponential', delay: 2000 }, removeOnComplete: true },
      })
    }
    await queue.addBulk(jobs)
  }
  await queue.close()
}

function work() {
  const dispatcher = new Agent({ connections: 256, headersTimeout: 10000, bodyTimeout: 10000 })
  const worker = new Worker(
    'sales',
    async (job) => {
      const answer = await request(process.env.BENCH_URL, {
        dispatcher,
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(job.data),
      })
      const reply = await answer.body.json()
      if (answer.statusCode !== 200 || !reply.cid) throw new Error('answer ' + answer.statusCode)
    },
    { connection, concurrency: 256 },
  )
  worker.on('error', (error) => console.error(error.message))
  process.on('SIGTERM', () => worker.close().then(() => process.exit(0)))
}

if (process.argv[2] === 'enqueue') enqueue(Number(process.argv[3])).then(() => process.exit(0))
else work()
