import { f32 } from "../core/tensor.js";
import { WeightError } from "../errors.js";
import type { Files } from "./files.js";
import { isRecord, quote } from "./json.js";
import { isTuple, type PickleGlobal, readPickle } from "./pickle.js";
import { DTYPE_BYTES, isFloat, throwProblems, toFloat32 } from "./safetensors.js";
import { openStoredZip, type StoredZip } from "./stored-zip.js";
import { missingTensor, type StoredDType, type StoredTensor, type TensorSource } from "./tensor-source.js";

/** One storage: a file of numbers in the archive, which several tensors may share. */
interface Storage {
  readonly dtype: StoredDType;
  /** The file's name in `data/`. */
  readonly key: string;
  /** Elements. */
  readonly count: number;
}

/** A tensor as its storage is seen: element (i, j, …) is at offset + i·strides[0] + j·strides[1] + … */
interface View extends StoredTensor {
  readonly storage: Storage;
  /** Elements. */
  readonly offset: number;
  readonly strides: readonly number[];
}

const storageTypes: Readonly<Record<string, StoredDType>> = {
  DoubleStorage: "F64",
  FloatStorage: "F32",
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  LongStorage: "I64",
  IntStorage: "I32",
  ShortStorage: "I16",
  CharStorage: "I8",
  ByteStorage: "U8",
  BoolStorage: "BOOL",
};
/** The pickle's own size is that of the names and shapes only. */
const maxPickle = 100_000_000;
const resave = "In Python: safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'model.safetensors').";

/**
 * Opens a file that `torch.save` wrote of a dict of tensors (a state dict): a zip archive with a pickle and a file for each storage. The pickle
 * goes through an allow-list (readPickle): nothing of it can run. Tensors are read one at a time and are contiguous then, whatever their strides;
 * several may share a storage. Throws FileError when the file is missing; WeightError for archives of before torch 1.6, big-endian ones, whatever
 * else than tensors is in the dict, and tensors that do not lie inside their storage (all of them listed).
 */
export async function openTorch(files: Files, name: string): Promise<TensorSource> {
  const where = `${files.origin}/${name}`;
  await refuseLegacy(files, name, where);
  const zip = await openStoredZip(files, name);
  const folder = await archiveFolder(zip, where);
  const tensors = tensorsOf(readPickle(await zip.read(`${folder}/data.pkl`), where, torchRules(where)), zip, folder, where);
  return {
    tensors,
    async readFloat32(tensor) {
      const view = tensors.get(tensor);
      if (view === undefined) throw missingTensor(where, tensor, tensors);
      const { dtype, shape } = view;
      if (!isFloat(dtype)) {
        throw new WeightError(`${where}: tensor ${quote(tensor)} holds integers (${dtype}), expected F64, F32, F16 or BF16`);
      }
      return f32(toFloat32(dtype, await readView(zip, folder, view)), shape);
    },
  };
}

/** torch 1.6 (2020) and later write zip archives. */
async function refuseLegacy(files: Files, name: string, where: string): Promise<void> {
  const size = (await files.size(name)) ?? 0;
  const start = await files.read(name, 0, Math.min(size, 2));
  if (start[0] !== 0x80 || start[1] !== 0x02) return;
  throw new WeightError(`${where} is in the format of torch before 1.6, a bare pickle and no zip archive, which is not read`, {
    hint: resave,
  });
}

/** The folder in the archive that has everything. */
async function archiveFolder(zip: StoredZip, where: string): Promise<string> {
  const pickles = [...zip.sizes].filter(([name]) => /^[^/]+\/data\.pkl$/.test(name));
  if (pickles.length !== 1)
    throw new WeightError(`${where}: ${pickles.length} files data.pkl in the archive, expected one`, { hint: resave });
  const [name, size] = pickles[0]!;
  if (size > maxPickle) throw new WeightError(`${where}: a pickle of ${size} bytes, at most ${maxPickle} are read`);
  const folder = name.slice(0, -"/data.pkl".length);
  if (zip.sizes.has(`${folder}/byteorder`)) {
    const order = new TextDecoder().decode(await zip.read(`${folder}/byteorder`, 0, Math.min(8, zip.sizes.get(`${folder}/byteorder`)!)));
    if (order !== "little") {
      throw new WeightError(`${where}: byteorder is ${quote(order)}, only "little" is read`, {
        hint: "Save it again on a little-endian machine.",
      });
    }
  }
  return folder;
}

function torchRules(where: string): Parameters<typeof readPickle>[2] {
  const storages = new Map(Object.keys(storageTypes).map((name) => [`torch.${name}`, { name: `torch.${name}` }] as const));
  const wrong = (what: string): WeightError =>
    new WeightError(`${where}: ${what} has arguments that torch.save does not give`, { hint: resave });
  const calls: readonly Required<PickleGlobal>[] = [
    {
      name: "collections.OrderedDict",
      call(args) {
        if (args.length > 0) throw wrong("collections.OrderedDict");
        return new Map();
      },
    },
    {
      name: "torch._utils._rebuild_tensor_v2",
      call([storage, offset, shape, strides]) {
        if (!isStorage(storage) || !isCount(offset) || !isCounts(shape) || !isCounts(strides) || shape.length !== strides.length) {
          throw wrong("torch._utils._rebuild_tensor_v2");
        }
        return { dtype: storage.dtype, shape, storage, offset, strides } satisfies View;
      },
    },
    {
      name: "torch._utils._rebuild_parameter",
      call([data]) {
        if (!isView(data)) throw wrong("torch._utils._rebuild_parameter");
        return data;
      },
    },
  ];
  return {
    globals: new Map<string, PickleGlobal>([...storages, ...calls.map((each) => [each.name, each] as const)]),
    persistent(id) {
      const [kind, type, key, , count] = isTuple(id) ? id : [];
      const found = [...storages.values()].find((each) => each === type);
      if (kind !== "storage" || found === undefined || typeof key !== "string" || !isCount(count)) throw wrong("a storage");
      return { dtype: storageTypes[found.name.slice("torch.".length)]!, key, count } satisfies Storage;
    },
  };
}

/** The dict's tensors, checked against their storages. */
function tensorsOf(root: unknown, zip: StoredZip, folder: string, where: string): ReadonlyMap<string, View> {
  if (!(root instanceof Map)) throw new WeightError(`${where} holds no dict of tensors`, { hint: resave });
  const problems: string[] = [];
  const tensors = new Map<string, View>();
  for (const [key, value] of root) {
    if (typeof key !== "string") problems.push("a key that is no text");
    else if (!isView(value)) problems.push(`${quote(key)} is no tensor`);
    else {
      const fault = viewFault(value, zip.sizes.get(`${folder}/data/${value.storage.key}`));
      if (fault !== undefined) problems.push(`tensor ${quote(key)}: ${fault}`);
      tensors.set(key, value);
    }
  }
  throwProblems(where, problems, `Only dicts of tensors are read. Of a training checkpoint save the model's state dict alone. ${resave}`);
  return tensors;
}

/** What is wrong with a tensor's place, given its storage's size in bytes. */
function viewFault({ storage, offset, shape, strides }: View, bytes: number | undefined): string | undefined {
  const { dtype, key, count } = storage;
  if (bytes === undefined) return `its storage ${quote(key)} is not in the archive`;
  if (bytes !== count * DTYPE_BYTES[dtype])
    return `its storage of ${count} ${dtype} has ${bytes} bytes, expected ${count * DTYPE_BYTES[dtype]}`;
  const elements = shape.reduce((product, size) => product * size, 1);
  if (!Number.isSafeInteger(elements)) return `[${shape.slice(0, 8)}] has more than 2^53 elements`;
  if (elements === 0) return undefined;
  const last = lastElement(offset, shape, strides);
  if (!(last < count))
    return `[${shape.slice(0, 8)}] with strides [${strides.slice(0, 8)}] at ${offset} ends outside its storage of ${count}`;
  // A stride of 0 repeats elements: a few bytes could ask for all of the memory.
  if (elements > count) return `[${shape.slice(0, 8)}] repeats the ${count} elements of its storage (strides [${strides.slice(0, 8)}])`;
  return undefined;
}

function lastElement(offset: number, shape: readonly number[], strides: readonly number[]): number {
  return shape.reduce((last, size, axis) => last + (size - 1) * strides[axis]!, offset);
}

/** A tensor's bytes in row-major order. */
async function readView(
  zip: StoredZip,
  folder: string,
  { dtype, storage, offset, shape, strides }: View,
): Promise<Uint8Array<ArrayBuffer>> {
  const elements = shape.reduce((product, size) => product * size, 1);
  if (elements === 0) return new Uint8Array();
  const width = DTYPE_BYTES[dtype];
  const end = lastElement(offset, shape, strides) + 1;
  const span = await zip.read(`${folder}/data/${storage.key}`, offset * width, end * width);
  if (isContiguous(shape, strides)) return span;
  const bytes = new Uint8Array(elements * width);
  const index = shape.map(() => 0);
  for (let i = 0, at = 0; i < elements; i++) {
    for (let b = 0; b < width; b++) bytes[i * width + b] = span[at * width + b]!;
    // the next element: the last axis counts, and carries
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      at -= strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return bytes;
}

/** Whether the elements follow each other; the stride of an axis of one element says nothing. */
function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis]! > 1 && strides[axis] !== expected) return false;
    expected *= shape[axis]!;
  }
  return true;
}

// A pickle's own values are primitives, Maps and arrays: objects with these fields are those made above.
function isStorage(value: unknown): value is Storage {
  return isRecord(value) && "count" in value;
}

function isView(value: unknown): value is View {
  return isRecord(value) && "strides" in value;
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isCounts(value: unknown): value is readonly number[] {
  return isTuple(value) && value.every(isCount);
}
