// What scaling.js measures from within a process of its own; prints an object a line.
//   node bench/scaling-child.js steps|adapters MODEL DATA FOLDER THREADS COUNT
import { join } from "node:path";
import { pipeline, train } from "peft.js/node";

const [part = "", model = "", data = "", folder = "", threads = "", count = ""] = process.argv.slice(2);

/** Resident memory after every so many steps. */
const every = 100;

if (part === "steps") await steps();
else await adapters();

/** Trains on small batches, each of a length of its own. */
async function steps() {
  const options = { max_steps: Number(count), batch_size: 4, group_by_length: false, eval: join(folder, "few", "test.jsonl") };
  const common = { model, data: join(data, "banking77", "train.jsonl"), threads: Number(threads), max_length: 128 };
  for await (const event of train({ ...common, ...options, out: join(folder, "many-steps") }))
    if (event.event === "step" && event.step % every === 0)
      console.log(JSON.stringify({ step: event.step, rss_bytes: process.memoryUsage.rss() }));
}

/** Loads so many adapters of one structure (FOLDER/one), and predicts a text with each. */
async function adapters() {
  const out = join(folder, "one");
  const many = await pipeline({ model, threads: Number(threads), adapter: out });
  await many("Where is my card?");
  const start = performance.now();
  for (let i = 0; i < Number(count); i++) {
    await many.load(`adapter-${i}`, out);
    await many("Where is my card?", { adapter: `adapter-${i}` });
  }
  console.log(JSON.stringify({ milliseconds: performance.now() - start, rss_bytes: process.resourceUsage().maxRSS * 1024 }));
  await many.dispose();
}
