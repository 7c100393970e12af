import { rowTable } from "../data/rows.js";
import { ConfigError, nearest, SessionError } from "../errors.js";
import { taskNamed } from "../tasks/index.js";
import type { Prediction } from "../tasks/task.js";
import { type Adapter, withoutAdapter } from "./adapter.js";
import type { BaseModel } from "./base-model.js";
import type { Decoder } from "./decode.js";
import { type AdaptedModel, adapted } from "./pipeline.js";
import { holdParams, type Program, type ProgramInputs } from "./program.js";
import { ProgramCache, type SharedProgram } from "./program-cache.js";

/** How a switchboard is made. */
export interface SwitchboardOptions {
  /** Which of the base's own heads answers where no adapter is in use; by default the one for which the checkpoint was made. */
  readonly task?: string | undefined;
  /** Sessions that may be loaded at a time, one for each structure of adapter; 4 by default. The least recently used is freed for a new one. */
  readonly sessions?: number | undefined;
}

/** A row to predict: a text, a pair of texts, or a list of words for token classification. */
export type PipelineInput =
  | string
  | { readonly text: string; readonly text_pair?: string }
  | { readonly tokens: readonly string[]; readonly text?: never };

/** What one call may say. */
export interface CallOptions {
  /** The adapter that answers this call; null for the base's own head. By default the one in use. */
  readonly adapter?: string | null | undefined;
  /** Whether predictions carry the head's outputs too. */
  readonly logits?: boolean | undefined;
}

/** A loaded adapter, as a list shows it. */
export interface LoadedAdapter {
  readonly name: string;
  readonly method: string;
  readonly task: string;
  /** Label names in id order; null where the adapter gives a number. */
  readonly labels: readonly string[] | null;
}

/** An adapter, or the base's own head, ready to answer. */
interface Entry {
  readonly model: AdaptedModel;
  readonly params: ProgramInputs["params"];
  /** What predicts: from what the task keeps of the head's outputs, or from all of them. */
  program(whole: boolean): SharedProgram;
  /** Calls under way; nothing that they use is freed before they are done. */
  readonly calls: Set<Promise<unknown>>;
  /** Continues texts; its program is shared with adapters of equal structure too. */
  decoder(): Decoder;
  free(): Promise<void>;
}

/**
 * One base model in memory with any number of adapters, each a set of tensors that the runtime holds: switching to another is naming another
 * set. Adapters of equal structure share a session; sessions of other structures are made at their first call and kept, up to a limit.
 * A call uses the adapter that is named, or is in use, when it is made, whatever is switched, loaded or unloaded meanwhile.
 */
export class Switchboard {
  readonly #base: BaseModel;
  readonly #task: string | undefined;
  readonly #programs: ProgramCache;
  readonly #adapters = new Map<string, Entry>();
  readonly #loading = new Set<string>();
  #own: Entry | undefined;
  #active: string | null = null;
  #ended = false;

  /** Throws ConfigError for a limit below 1. */
  constructor(base: BaseModel, { task, sessions = 4 }: SwitchboardOptions = {}) {
    if (!Number.isInteger(sessions) || sessions < 1) throw new ConfigError(`sessions is ${sessions}, expected a whole number from 1`);
    this.#base = base;
    this.#task = task;
    this.#programs = new ProgramCache(base, sessions);
  }

  /** The adapters that are loaded, in the order in which they were. */
  get adapters(): readonly LoadedAdapter[] {
    return [...this.#adapters].map(([name, { model }]) => {
      const { head, attachments } = model;
      const method = attachments.map((each) => each.method.name).join(", ");
      return { name, method, task: head.task.name, labels: head.target.kind === "classes" ? head.target.labels : null };
    });
  }

  /** The adapter in use; null for the base as it is. */
  get active(): string | null {
    return this.#active;
  }

  /** Sessions that are loaded now. */
  get sessions(): number {
    return this.#programs.size;
  }

  /** Adds an adapter under a name. Its tensors must not be changed afterwards. Throws ConfigError for a name that is taken. */
  async load(name: string, adapter: Adapter): Promise<void> {
    this.#checkOpen();
    if (this.#adapters.has(name) || this.#loading.has(name)) {
      throw new ConfigError(`there is an adapter "${name}" already`, { hint: "unload it first, or choose another name" });
    }
    this.#loading.add(name);
    try {
      const model = adapted(this.#base, adapter);
      const program = this.#programs.share(model.graph());
      const held = await holdParams(this.#base.runtime, adapter.params).catch(async (error: unknown) => {
        await program.release();
        throw error;
      });
      const entry = entryOf(this.#programs, model, program, held, () => held.dispose());
      if (this.#ended) await entry.free();
      this.#checkOpen();
      this.#adapters.set(name, entry);
    } finally {
      this.#loading.delete(name);
    }
  }

  /** Puts an adapter in use for the calls that name none; null: the base as it is. Throws ConfigError that lists the names there are. */
  use(name: string | null): void {
    if (name !== null) this.#named(name);
    this.#active = name;
  }

  /**
   * Removes an adapter and frees its memory, and its session where no other adapter shares it, once the calls under way are done.
   * Throws ConfigError for a name that there is not, and for the adapter in use.
   */
  async unload(name: string): Promise<void> {
    const entry = this.#named(name);
    if (name === this.#active) {
      throw new ConfigError(`the adapter "${name}" is in use`, { hint: "use another one first, or none: use(null)" });
    }
    this.#adapters.delete(name);
    await entry.free();
  }

  /**
   * Predicts rows, one prediction each, in their order. Throws ConfigError for an adapter that there is not, ModelError where none is asked for and the base
   * has no head of its own, DataError for a row that does not suit the task.
   */
  async predict(
    inputs: readonly PipelineInput[],
    { adapter = this.#active, logits = false }: CallOptions = {},
  ): Promise<readonly Prediction[]> {
    const { model, params, program, calls } = this.#entry(adapter);
    const table = rowTable(
      inputs.map((each) => (typeof each === "string" ? { text: each } : each)),
      "input",
    );
    const { head } = model;
    const examples = model.encode(table);
    const call = program(logits).run((loaded) => model.run(loaded, params, examples, logits));
    calls.add(call);
    try {
      return head.task.predict(await call, table, head.target, logits);
    } finally {
      calls.delete(call);
    }
  }

  /**
   * What continues texts with the adapter that is named, or is in use now; whatever is in use later, it stays with that one. Once the adapter is
   * unloaded its passes throw SessionError. Throws ConfigError for an adapter that there is not or that writes no texts, ModelError for a model that writes none.
   */
  decoder({ adapter = this.#active }: Pick<CallOptions, "adapter"> = {}): Decoder {
    return this.#entry(adapter).decoder();
  }

  /** Frees all adapters and sessions, once the calls under way are done; the base model stays open. */
  async dispose(): Promise<void> {
    this.#ended = true;
    const entries = [...this.#adapters.values(), ...(this.#own === undefined ? [] : [this.#own])];
    this.#adapters.clear();
    this.#own = undefined;
    this.#active = null;
    await Promise.all(entries.map((entry) => entry.free()));
  }

  #entry(adapter: string | null): Entry {
    return adapter === null ? this.#withoutAdapter() : this.#named(adapter);
  }

  #named(name: string): Entry {
    this.#checkOpen();
    const entry = this.#adapters.get(name);
    if (entry !== undefined) return entry;
    const names = [...this.#adapters.keys()];
    const guess = nearest(name, names);
    throw new ConfigError(`there is no adapter "${name}"; loaded: ${names.join(", ") || "none"}`, {
      hint: guess === undefined ? "load it first" : `did you mean "${guess}"?`,
    });
  }

  #withoutAdapter(): Entry {
    this.#checkOpen();
    if (this.#own !== undefined) return this.#own;
    const model = adapted(this.#base, withoutAdapter(this.#base, this.#task === undefined ? undefined : taskNamed(this.#task)));
    const program = this.#programs.share(model.graph());
    this.#own = entryOf(this.#programs, model, program, new Map(), () => Promise.resolve());
    return this.#own;
  }

  #checkOpen(): void {
    if (this.#ended) throw new SessionError("the pipeline was disposed of");
  }
}

function entryOf(
  programs: ProgramCache,
  model: AdaptedModel,
  program: SharedProgram,
  params: Entry["params"],
  giveBack: () => Promise<void>,
): Entry {
  const calls = new Set<Promise<unknown>>();
  let wholeProgram: SharedProgram | undefined;
  let decoding: { readonly program: SharedProgram; readonly decoder: Decoder } | undefined;
  return {
    model,
    params,
    program(whole) {
      if (!whole || model.head.task.keep === undefined) return program;
      wholeProgram ??= programs.share(model.graph(true));
      return wholeProgram;
    },
    calls,
    decoder() {
      if (decoding === undefined) {
        const graph = model.continuation();
        const shared = programs.share(graph, "decoding");
        const run: Program["run"] = (inputs) => {
          const pass = shared.run((loaded) => loaded.run(inputs));
          calls.add(pass);
          return pass.finally(() => calls.delete(pass));
        };
        decoding = { program: shared, decoder: model.decoder(graph, { run, load: () => shared.run(async () => {}) }, params) };
      }
      return decoding.decoder;
    },
    async free() {
      await Promise.allSettled(calls);
      await giveBack();
      await program.release();
      await wholeProgram?.release();
      await decoding?.program.release();
    },
  };
}
