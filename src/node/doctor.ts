import { spawn } from "node:child_process";
import { readdir, readFile, stat, statfs } from "node:fs/promises";
import { createRequire } from "node:module";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { input } from "../core/graph.js";
import { f32 } from "../core/tensor.js";
import { messageOf } from "../errors.js";
import { catalogue, minilm } from "../io/catalogue.js";
import { hubSettings, peftHome } from "../io/hub-environment.js";
import { emit } from "../onnx/emit.js";
import { gemm } from "../ops/linear.js";
import { nodeRuntime } from "../runtime/node.js";

/** One thing that was looked at. */
export interface Finding {
  readonly name: string;
  /** "fail" only where nothing can be trained without it. */
  readonly status: "ok" | "warn" | "fail";
  /** What was found, in words. */
  readonly text: string;
  /** What to do about it; null where nothing is wrong. */
  readonly hint: string | null;
  /** The same for programs. */
  readonly facts: Readonly<Record<string, unknown>>;
}

/** What `doctor` is given by the caller. */
export interface DoctorOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly fetch?: typeof fetch | undefined;
  readonly signal?: AbortSignal | undefined;
}

const leastNode = [20, 19] as const;
/** Bytes: less memory than this is tight even for the smallest catalogue model. */
const littleMemory = 1.5e9;
/** Bytes: room for the default base and some checkpoints. */
const littleDisk = 1e9;
/** GFLOP/s per thread below which something is slow: no AVX2, an emulated processor, a crowded machine. */
const slow = 5;
/** Milliseconds to wait for the hub's answer. */
const hubTimeout = 5000;

/** Looks at all that training needs here, one finding after the other. Never throws: what fails is a finding. */
export async function* examine(options: DoctorOptions): AsyncGenerator<Finding> {
  const checks: readonly [string, (options: DoctorOptions) => Promise<Omit<Finding, "name">>][] = [
    ["Node.js", nodeVersion],
    ["processor", processor],
    ["ONNX Runtime", matmul],
    ["memory", memory],
    ["disk", disk],
    ["hub", hub],
    ["pip", pip],
    ["models", models],
  ];
  for (const [name, check] of checks) {
    try {
      yield { name, ...(await check(options)) };
    } catch (error) {
      yield {
        name,
        status: "warn",
        text: `could not be looked at: ${messageOf(error)}`,
        hint: "run with --debug and report it",
        facts: {},
      };
    }
  }
}

async function nodeVersion(): Promise<Omit<Finding, "name">> {
  const { node } = process.versions;
  const [major = 0, minor = 0] = node.split(".").map(Number);
  const fits = major > leastNode[0] || (major === leastNode[0] && minor >= leastNode[1]);
  const facts = { version: node, platform: process.platform, arch: process.arch };
  const text = `${node} on ${process.platform} ${process.arch}`;
  if (fits) return { status: "ok", text, hint: null, facts };
  return {
    status: "fail",
    text: `${text}; at least ${leastNode.join(".")} is needed`,
    hint: "install a newer Node.js: https://nodejs.org",
    facts,
  };
}

async function processor(): Promise<Omit<Finding, "name">> {
  const threads = availableParallelism();
  const model = cpus()[0]?.model.trim() ?? "unknown";
  const flags = /^(?:flags|Features)\s*:(.*)$/m
    .exec(await readFile("/proc/cpuinfo", "utf8").catch(() => ""))?.[1]
    ?.trim()
    .split(/\s+/);
  const interesting = ["avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8", "asimd", "asimddp", "i8mm", "bf16"];
  const features = flags === undefined ? null : interesting.filter((name) => flags.includes(name));
  const text = `${model}, ${threads} thread${threads === 1 ? "" : "s"}${features === null || features.length === 0 ? "" : `, ${features.join(" ")}`}`;
  const old = process.arch === "x64" && features !== null && !features.includes("avx2");
  return {
    status: old ? "warn" : "ok",
    text,
    hint: old ? "without AVX2 training is several times slower" : null,
    facts: { model, threads, features },
  };
}

/** Multiplies two matrices as training would, in a runtime of its own: says whether ONNX Runtime loads, runs, is right, and how fast it is. */
async function matmul({ signal }: DoctorOptions): Promise<Omit<Finding, "name">> {
  const version = onnxRuntimeVersion();
  const size = 1024;
  const runtime = nodeRuntime();
  try {
    const product = gemm(input("a", "float32", [size, size]), input("b", "float32", [size, size]));
    const session = await runtime.createSession(emit({ product }).bytes);
    const ones = () => f32(new Float32Array(size * size).fill(1), [size, size]);
    await runtime.keep({ "batch:a": ones(), "batch:b": ones() });
    let best = Number.POSITIVE_INFINITY;
    let right = true;
    for (let i = 0; i < 6; i++) {
      signal?.throwIfAborted();
      const began = performance.now();
      const { product: result } = await session.run({});
      best = Math.min(best, (performance.now() - began) / 1000);
      right &&= (result?.data as Float32Array | undefined)?.every((value) => value === size) === true;
    }
    const speed = (2 * size ** 3) / best / 1e9;
    const facts = { version, threads: runtime.threads, gflops: speed };
    const text = `${version ?? "(version unknown)"}, ${runtime.threads} thread${runtime.threads === 1 ? "" : "s"}: ${speed.toFixed(0)} GFLOP/s on a product of ${size}×${size} matrices`;
    if (!right)
      return {
        status: "fail",
        text: `${text}, and the result is wrong`,
        hint: "reinstall the packages (npm ci); if it stays so, report the processor above",
        facts,
      };
    const lame = speed < slow * runtime.threads;
    return {
      status: lame ? "warn" : "ok",
      text,
      hint: lame ? "that is slow: are other programs running, or is the processor emulated?" : null,
      facts,
    };
  } catch (error) {
    return {
      status: "fail",
      text: `${version ?? "onnxruntime-node"} does not run: ${messageOf(error)}`,
      hint: "reinstall the packages (npm ci); there are builds for Linux, Windows and macOS on x64 and arm64, with glibc on Linux (not Alpine)",
      facts: { version, threads: availableParallelism(), gflops: null },
    };
  } finally {
    await runtime.close();
  }
}

function onnxRuntimeVersion(): string | null {
  try {
    const { version } = createRequire(import.meta.url)("onnxruntime-node/package.json") as { version: string };
    return version;
  } catch {
    return null;
  }
}

async function memory(): Promise<Omit<Finding, "name">> {
  const limit = process.constrainedMemory?.() ?? 0;
  const total = limit > 0 && limit < totalmem() ? limit : totalmem();
  const free = Math.min(process.availableMemory?.() ?? freemem(), total);
  const tight = free < littleMemory;
  return {
    status: tight ? "warn" : "ok",
    text: `${gigabytes(free)} free of ${gigabytes(total)}${total < totalmem() ? " (this container's limit)" : ""}`,
    hint: tight ? "close other programs, or train with a smaller --batch-size and --max-length" : null,
    facts: { free_bytes: free, total_bytes: total },
  };
}

async function disk({ env }: DoctorOptions): Promise<Omit<Finding, "name">> {
  const { cacheDir } = await hubSettings(env);
  const [cache, here] = await Promise.all([freeSpace(cacheDir), freeSpace(process.cwd())]);
  const tight = cache < littleDisk || here < littleDisk;
  return {
    status: tight ? "warn" : "ok",
    text: `${gigabytes(cache)} free for models (${cacheDir}), ${gigabytes(here)} here`,
    hint: tight ? "free some space, or put the models elsewhere with HF_HOME=/other/folder" : null,
    facts: { cache: cacheDir, cache_free_bytes: cache, here_free_bytes: here },
  };
}

/** Bytes free where a folder is or would be. */
async function freeSpace(folder: string): Promise<number> {
  const found = await stat(folder).catch(() => undefined);
  if (found === undefined && dirname(folder) !== folder) return freeSpace(dirname(folder));
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

async function hub({ env, fetch: get = fetch, signal }: DoctorOptions): Promise<Omit<Finding, "name">> {
  const { endpoint, offline, token } = await hubSettings(env);
  const facts = { endpoint, offline, token: token !== undefined };
  if (offline) {
    return {
      status: "warn",
      text: "not asked, HF_HUB_OFFLINE is set",
      hint: "only cached models can be used; unset it to download others",
      facts: { ...facts, reachable: null },
    };
  }
  const url = `${endpoint}/api/models/${minilm.id}`;
  const began = performance.now();
  try {
    const limit = AbortSignal.timeout(hubTimeout);
    const response = await get(url, { signal: signal === undefined ? limit : AbortSignal.any([signal, limit]) });
    await response.body?.cancel();
    const ms = Math.round(performance.now() - began);
    if (response.ok)
      return {
        status: "ok",
        text: `${endpoint} answers (${ms} ms)${token === undefined ? "" : ", with a token"}`,
        hint: null,
        facts: { ...facts, reachable: true, ms },
      };
    return {
      status: "warn",
      text: `${endpoint} answers with status ${response.status}`,
      hint: "is HF_ENDPOINT a Hugging Face hub, and HF_TOKEN valid?",
      facts: { ...facts, reachable: false },
    };
  } catch (error) {
    signal?.throwIfAborted();
    const cause =
      error instanceof Error && error.cause instanceof Error && "code" in error.cause ? String(error.cause.code) : messageOf(error);
    return {
      status: "warn",
      text: `${endpoint} cannot be reached (${cause})`,
      hint: "minilm comes through pip then; for others set HF_ENDPOINT to a mirror (NODE_EXTRA_CA_CERTS for its certificate), or give a local folder",
      facts: { ...facts, reachable: false },
    };
  }
}

async function pip({ env, signal }: DoctorOptions): Promise<Omit<Finding, "name">> {
  for (const command of [["pip"], ["pip3"], ["python3", "-m", "pip"], ["python", "-m", "pip"]]) {
    const version = await firstLine([...command, "--version"], env, signal);
    if (version !== undefined)
      return {
        status: "ok",
        text: `${version.replace(/ from .*$/, "")} (used only where the hub cannot be reached)`,
        hint: null,
        facts: { command: command.join(" "), version },
      };
  }
  return {
    status: "ok",
    text: "not here, and needed only where the hub cannot be reached",
    hint: null,
    facts: { command: null, version: null },
  };
}

async function firstLine(
  command: readonly string[],
  env: DoctorOptions["env"],
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const [program = "", ...args] = command;
  return new Promise((resolve) => {
    let text = "";
    const child = spawn(program, args, { env: { ...env }, stdio: ["ignore", "pipe", "ignore"], signal, timeout: 10_000 });
    child.stdout.setEncoding("utf8").on("data", (part: string) => {
      text += part;
    });
    child.on("error", () => resolve(undefined));
    child.on("close", (code) => resolve(code === 0 ? text.split("\n")[0]!.trim() : undefined));
  });
}

async function models({ env }: DoctorOptions): Promise<Omit<Finding, "name">> {
  const { cacheDir } = await hubSettings(env);
  const parcels = join(peftHome(env), "models");
  const fromHub = (await readdir(cacheDir).catch(() => [])).flatMap((name) =>
    name.startsWith("models--") ? [name.slice("models--".length).replace("--", "/")] : [],
  );
  const fromPip = (await readdir(parcels).catch(() => [])).flatMap(
    (name) => Object.keys(catalogue).find((each) => name.replace(/-[0-9a-f]+$/, "") === each) ?? [],
  );
  const cached = [...fromHub, ...fromPip].sort();
  const shown = `${cached.slice(0, 6).join(", ")}${cached.length > 6 ? `, and ${cached.length - 6} more` : ""}`;
  return {
    status: "ok",
    text: cached.length === 0 ? "none cached yet; peft pull minilm fetches the default one (91 MB)" : `cached: ${shown}`,
    hint: null,
    facts: { cached, folders: [cacheDir, parcels] },
  };
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
