import type { Value } from "../core/graph.js";
import type { BaseModel } from "./base-model.js";
import { loadProgram, type Program, type ProgramUse, structureOf } from "./program.js";

/** A program for one who may share it with others. */
export interface SharedProgram {
  /** Calls `work` with the program, which is loaded if need be and stays until `work` is done. */
  run<T>(work: (program: Program) => Promise<T>): Promise<T>;
  /** Gives the share up; the last one out frees the program. Only when no `run` is under way. */
  release(): Promise<void>;
}

/** One structure, loaded or not. */
interface Slot {
  readonly structure: string;
  readonly graph: Readonly<Record<string, Value>>;
  readonly use: ProgramUse;
  program: Promise<Program> | undefined;
  /** Who may still ask for the program, and how many are using it now. */
  owners: number;
  users: number;
}

/** A base model's programs: graphs of equal structure share one, and of those loaded the least recently used give way to new ones. */
export class ProgramCache {
  readonly #model: BaseModel;
  readonly #limit: number;
  readonly #slots = new Map<string, Slot>();
  /** Those with a program, the least recently used first. */
  readonly #loaded = new Set<Slot>();

  /** `limit`: programs that may be loaded at a time. More are while more are in use. */
  constructor(model: BaseModel, limit: number) {
    this.#model = model;
    this.#limit = limit;
  }

  /** Programs that are loaded now. */
  get size(): number {
    return this.#loaded.size;
  }

  /** The program of a graph; nothing is loaded yet. Throws GraphError for a graph that breaks the rules. */
  share(graph: Readonly<Record<string, Value>>, use: ProgramUse = "inference"): SharedProgram {
    const structure = structureOf(graph);
    const slot = this.#slots.get(structure) ?? { structure, graph, use, program: undefined, owners: 0, users: 0 };
    this.#slots.set(structure, slot);
    slot.owners++;
    return {
      run: (work) => this.#run(slot, work),
      release: async () => {
        slot.owners--;
        if (slot.owners > 0) return;
        this.#slots.delete(slot.structure);
        await this.#free(slot);
      },
    };
  }

  async #run<T>(slot: Slot, work: (program: Program) => Promise<T>): Promise<T> {
    slot.users++;
    try {
      return await work(await this.#program(slot));
    } finally {
      slot.users--;
      await this.#shrink();
    }
  }

  async #program(slot: Slot): Promise<Program> {
    this.#loaded.delete(slot);
    this.#loaded.add(slot);
    if (slot.program !== undefined) return slot.program;
    const room = this.#shrink();
    const loading = room.then(() => loadProgram(this.#model, slot.graph, slot.use));
    slot.program = loading;
    try {
      return await loading;
    } catch (error) {
      slot.program = undefined;
      this.#loaded.delete(slot);
      throw error;
    }
  }

  /** Frees programs that nobody uses, the least recently used first, until no more are loaded than may be. */
  async #shrink(): Promise<void> {
    const surplus = this.#loaded.size - this.#limit;
    const idle = [...this.#loaded].filter(({ users }) => users === 0);
    await Promise.all(idle.slice(0, Math.max(0, surplus)).map((slot) => this.#free(slot)));
  }

  async #free(slot: Slot): Promise<void> {
    const { program } = slot;
    slot.program = undefined;
    this.#loaded.delete(slot);
    await (await program)?.dispose();
  }
}
