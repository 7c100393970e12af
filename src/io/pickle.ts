import { WeightError } from "../errors.js";
import { quote } from "./json.js";

/** A Python global that a pickle may name. */
export interface PickleGlobal {
  /** `module.name`. */
  readonly name: string;
  /** What calling it with these arguments gives; absent for those that are only named. */
  readonly call?: (args: readonly unknown[]) => unknown;
}

/** What a pickle may ask for beyond plain values. */
export interface PickleRules {
  /** The allow-list, by `module.name`. */
  readonly globals: ReadonlyMap<string, PickleGlobal>;
  /** What a persistent id stands for. Throws for one it does not know. */
  readonly persistent: (id: unknown) => unknown;
}

/** What a pickled value becomes: dicts and OrderedDicts are Maps, lists arrays, tuples frozen arrays. */
export type PickleDict = Map<unknown, unknown>;

/** Far beyond any state dict (some forty a tensor): what a hostile pickle may make of memory stays bounded. */
const maxOpcodes = 1_000_000;
const hint = "If you trust it, load it in Python once and save it again with safetensors.";

/**
 * Reads the one value that a pickle holds (https://docs.python.org/3/library/pickletools.html; protocols 2 to 5). Only opcodes that put plain
 * values together are known, and only globals of the allow-list: nothing that a file names is looked up, imported or run. Throws WeightError.
 */
export function readPickle(bytes: Uint8Array, where: string, rules: PickleRules): unknown {
  return new Unpickler(bytes, where, rules).run();
}

/** The stack machine; errors name the byte they happen at. */
class Unpickler {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #where: string;
  readonly #rules: PickleRules;
  readonly #memo = new Map<number, unknown>();
  #at = 0;
  #stack: unknown[] = [];
  /** The stacks below the marks. */
  readonly #below: unknown[][] = [];

  constructor(bytes: Uint8Array, where: string, rules: PickleRules) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#where = where;
    this.#rules = rules;
  }

  run(): unknown {
    for (let count = 0; count < maxOpcodes; count++) {
      const opcode = this.#take(1)[0]!;
      if (opcode === STOP) return this.#result();
      const act = opcodes.get(opcode);
      if (act === undefined) {
        const name = `opcode ${dangerous.get(opcode) ?? `0x${opcode.toString(16).padStart(2, "0")}`}`;
        throw this.fault(dangerous.has(opcode) ? `${name}, which can run code` : `${name}, which files of tensors do not need`);
      }
      act(this);
    }
    throw this.fault(`more than ${maxOpcodes} opcodes`);
  }

  fault(what: string): WeightError {
    return new WeightError(`${this.#where}: refused at byte ${this.#at} of its pickle: ${what}`, { hint });
  }

  #result(): unknown {
    if (this.#below.length > 0 || this.#stack.length !== 1) throw this.fault("it does not end with one value");
    if (this.#at !== this.#bytes.length) throw this.fault("it goes on after its end");
    return this.#stack[0];
  }

  #take(count: number): Uint8Array {
    const end = this.#at + count;
    if (end > this.#bytes.length) throw this.fault("it ends too early");
    const taken = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }

  push(value: unknown): void {
    this.#stack.push(value);
  }

  pop(): unknown {
    if (this.#stack.length === 0) throw this.fault("it takes from an empty stack");
    return this.#stack.pop();
  }

  #top(): unknown {
    if (this.#stack.length === 0) throw this.fault("it takes from an empty stack");
    return this.#stack.at(-1);
  }

  mark(): void {
    this.#below.push(this.#stack);
    this.#stack = [];
  }

  /** What was pushed since the last mark. */
  popMark(): unknown[] {
    const below = this.#below.pop();
    if (below === undefined) throw this.fault("it asks for a mark where there is none");
    const items = this.#stack;
    this.#stack = below;
    return items;
  }

  uint(size: 1 | 2 | 4): number {
    const at = this.#at;
    this.#take(size);
    return size === 1 ? this.#view.getUint8(at) : size === 2 ? this.#view.getUint16(at, true) : this.#view.getUint32(at, true);
  }

  int32(): number {
    return this.uint(4) | 0;
  }

  float64(): number {
    const at = this.#at;
    this.#take(8);
    return this.#view.getFloat64(at);
  }

  /** A number of 8 bytes, below 2^53. */
  uint64(): number {
    const value = this.uint(4) + this.uint(4) * 2 ** 32;
    if (!Number.isSafeInteger(value)) throw this.fault("a number beyond 2^53");
    return value;
  }

  /** A signed integer of a number of bytes, little-endian. */
  long(size: number): number {
    if (size > 8) throw this.fault(`an integer of ${size} bytes`);
    const value = this.#take(size).reduceRight((high, byte) => (high << 8n) | BigInt(byte), 0n);
    const number = Number(BigInt.asIntN(8 * size, value));
    if (!Number.isSafeInteger(number)) throw this.fault("a number beyond 2^53");
    return number;
  }

  text(length: number): string {
    return this.#decode(this.#take(length));
  }

  line(): string {
    const end = this.#bytes.indexOf(10, this.#at);
    if (end < 0) throw this.fault("it ends too early");
    const text = this.#decode(this.#take(end - this.#at));
    this.#at++;
    return text;
  }

  #decode(bytes: Uint8Array): string {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw this.fault("a text that is not UTF-8");
    }
  }

  pushGlobal(module: unknown, name: unknown): void {
    if (typeof module !== "string" || typeof name !== "string") throw this.fault("it names a global by something else than texts");
    const full = `${module}.${name}`;
    const found = this.#rules.globals.get(full);
    if (found === undefined) {
      throw this.fault(
        `it names ${quote(full.slice(0, 200))}; of Python's globals only those of plain tensors are read, others can run code`,
      );
    }
    this.push(found);
  }

  persistent(): void {
    this.push(this.#rules.persistent(this.pop()));
  }

  /** Calls what the allow-list has, and nothing else. */
  reduce(): void {
    const args = this.pop();
    const callee = this.pop();
    const known = [...this.#rules.globals.values()].find((each) => each === callee);
    if (known?.call === undefined) throw this.fault(`it calls ${known?.name ?? "what cannot be called"}`);
    if (!isTuple(args)) throw this.fault(`it calls ${known.name} without a tuple of arguments`);
    this.push(known.call(args));
  }

  /** Attributes of an OrderedDict (`_metadata` of state dicts) change none of its items. */
  build(): void {
    this.pop();
    if (!(this.#top() instanceof Map)) throw this.fault("opcode BUILD, which sets attributes, on something else than a dict");
  }

  setItems(items: readonly unknown[]): void {
    const dict = this.#top();
    if (!(dict instanceof Map) || items.length % 2 !== 0) throw this.fault("it sets items of something else than a dict");
    for (let i = 0; i < items.length; i += 2) dict.set(items[i], items[i + 1]);
  }

  append(items: readonly unknown[]): void {
    const list = this.#top();
    if (!Array.isArray(list) || Object.isFrozen(list)) throw this.fault("it appends to something else than a list");
    for (const item of items) list.push(item);
  }

  tuple(size: number): void {
    const items = Array.from({ length: size }, () => this.pop());
    this.push(Object.freeze(items.reverse()));
  }

  put(index: number): void {
    this.#memo.set(index, this.#top());
  }

  memoize(): void {
    this.put(this.#memo.size);
  }

  get(index: number): void {
    if (!this.#memo.has(index)) throw this.fault(`it recalls memo ${index}, which was never put`);
    this.push(this.#memo.get(index));
  }

  protocol(): void {
    const version = this.uint(1);
    if (version < 2 || version > 5) throw this.fault(`protocol ${version}; 2 to 5 are read`);
  }
}

/** Whether a value that a pickle held is a tuple. */
export function isTuple(value: unknown): value is readonly unknown[] {
  return Array.isArray(value) && Object.isFrozen(value);
}

const STOP = 0x2e;

/** The opcodes that are known; the names are those of Python's pickle.py. */
const opcodes: ReadonlyMap<number, (m: Unpickler) => void> = new Map([
  [0x80, (m) => m.protocol()], // PROTO
  [0x95, (m) => void m.uint64()], // FRAME
  [0x28, (m) => m.mark()], // MARK
  [0x4e, (m) => m.push(null)], // NONE
  [0x88, (m) => m.push(true)], // NEWTRUE
  [0x89, (m) => m.push(false)], // NEWFALSE
  [0x4b, (m) => m.push(m.uint(1))], // BININT1
  [0x4d, (m) => m.push(m.uint(2))], // BININT2
  [0x4a, (m) => m.push(m.int32())], // BININT
  [0x8a, (m) => m.push(m.long(m.uint(1)))], // LONG1
  [0x47, (m) => m.push(m.float64())], // BINFLOAT
  [0x58, (m) => m.push(m.text(m.uint(4)))], // BINUNICODE
  [0x8c, (m) => m.push(m.text(m.uint(1)))], // SHORT_BINUNICODE
  [0x8d, (m) => m.push(m.text(m.uint64()))], // BINUNICODE8
  [0x7d, (m) => m.push(new Map())], // EMPTY_DICT
  [0x73, (m) => m.setItems([m.pop(), m.pop()].reverse())], // SETITEM
  [0x75, (m) => m.setItems(m.popMark())], // SETITEMS
  [0x5d, (m) => m.push([])], // EMPTY_LIST
  [0x61, (m) => m.append([m.pop()])], // APPEND
  [0x65, (m) => m.append(m.popMark())], // APPENDS
  [0x29, (m) => m.tuple(0)], // EMPTY_TUPLE
  [0x85, (m) => m.tuple(1)], // TUPLE1
  [0x86, (m) => m.tuple(2)], // TUPLE2
  [0x87, (m) => m.tuple(3)], // TUPLE3
  [0x74, (m) => m.push(Object.freeze(m.popMark()))], // TUPLE
  [0x71, (m) => m.put(m.uint(1))], // BINPUT
  [0x72, (m) => m.put(m.uint(4))], // LONG_BINPUT
  [0x94, (m) => m.memoize()], // MEMOIZE
  [0x68, (m) => m.get(m.uint(1))], // BINGET
  [0x6a, (m) => m.get(m.uint(4))], // LONG_BINGET
  [0x63, (m) => m.pushGlobal(m.line(), m.line())], // GLOBAL
  [0x93, (m) => pushStackGlobal(m)], // STACK_GLOBAL
  [0x51, (m) => m.persistent()], // BINPERSID
  [0x52, (m) => m.reduce()], // REDUCE
  [0x62, (m) => m.build()], // BUILD
]);

function pushStackGlobal(m: Unpickler): void {
  const name = m.pop();
  m.pushGlobal(m.pop(), name);
}

/** Opcodes that make objects of classes that the file names, or call them. */
const dangerous: ReadonlyMap<number, string> = new Map([
  [0x69, "INST"],
  [0x6f, "OBJ"],
  [0x81, "NEWOBJ"],
  [0x92, "NEWOBJ_EX"],
  [0x82, "EXT1"],
  [0x83, "EXT2"],
  [0x84, "EXT4"],
]);
