// One base model in memory, several adapters, each call answered by the one that it names.
//   node examples/switching.mjs [model] [name=adapter ...]
import { pipeline } from "peft.js/node";

const [model = "minilm", ...given] = process.argv.slice(2);
const adapters = Object.fromEntries((given.length > 0 ? given : ["mine=my-adapter"]).map((each) => each.split("=", 2)));
const text = "Where is my parcel?";

const classify = await pipeline({ model, adapters });
for (const { name, method, labels } of classify.adapters) console.log(`${name}: ${method}, ${labels?.length} labels`);

for (const name of Object.keys(adapters)) {
  classify.use(name); // the next calls' adapter
  console.log(`${name} in use: ${(await classify(text)).label}`);
}

// A call may name its adapter; calls at the same time do not disturb each other.
const answers = await Promise.all(Object.keys(adapters).map((adapter) => classify(text, { adapter })));
console.log(`at the same time: ${answers.map(({ label }) => label).join(", ")}`);

const [first = "mine"] = Object.keys(adapters);
classify.use(null);
await classify.unload(first);
console.log(`left: ${classify.adapters.map(({ name }) => name).join(", ") || "none"}`);
await classify.dispose();
