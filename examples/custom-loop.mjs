// The same training by hand: rows made in memory, a rule of our own for when to stop, and the adapter tried before it is written anywhere.
//   node examples/custom-loop.mjs [model]
import { adapterFiles, loadModel, methodNamed, parseJsonl, Switchboard, taskNamed, trainingOptions, trainLoop } from "peft.js/node";

const [name = "minilm"] = process.argv.slice(2);
const rows = parseJsonl(
  Array.from({ length: 64 }, (_, i) =>
    JSON.stringify(i % 2 === 0 ? { text: `what does item ${i} cost?`, label: "price" } : { text: `item ${i} came broken`, label: "fault" }),
  ).join("\n"),
  "rows made here",
);

const model = await loadModel(name, { onProgress: (progress) => console.error(progress) });
const lora = methodNamed("lora");
const stop = new AbortController();
const loop = trainLoop({
  model,
  task: taskNamed("text-classification"),
  method: lora,
  config: lora.config.parse({ r: 4, target_modules: "all-linear" }),
  rows,
  options: trainingOptions.parse({ epochs: 20, batch_size: 16, learning_rate: 5e-3 }),
  signal: stop.signal,
  now: () => performance.now() / 1000,
});

for (;;) {
  const { value, done } = await loop.next();
  if (done === true) {
    console.log(`${value.steps} steps, ${value.finished ? "all of them" : "stopped by the rule"}`);
    const board = new Switchboard(model);
    await board.load("mine", value.adapter);
    board.use("mine");
    console.log(...(await board.predict(["what does item 99 cost?"])));
    for (const [file, bytes] of Object.entries(await adapterFiles(model, value.adapter))) console.log(`${file}: ${bytes.length} bytes`);
    await board.dispose();
    break;
  }
  if (value.event === "step" && value.loss < 0.05) stop.abort();
}
await model.close();
