import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { Dim } from "../core/dims.js";
import type { Attribute, TensorType } from "../core/graph.js";
import { bytesPer, type DType, type Tensor } from "../core/tensor.js";

/** ONNX's numbers for element types (onnx.proto, TensorProto.DataType). */
export const elementType: Readonly<Record<DType, number>> = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7, bool: 9, float16: 10 };

/** One node of an ONNX graph. */
export interface NodeProto {
  /** What ONNX Runtime calls the node in errors and profiles. */
  readonly name: string;
  readonly opType: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** What an ONNX model is made of. */
export interface ModelProto {
  readonly nodes: readonly NodeProto[];
  readonly initializers: readonly (readonly [name: string, value: Tensor])[];
  /** Initialisers whose bytes stand outside the file, under their own names. */
  readonly external: readonly (readonly [name: string, type: TensorType])[];
  readonly inputs: readonly (readonly [name: string, type: TensorType])[];
  readonly outputs: readonly (readonly [name: string, type: TensorType])[];
  /** Types of tensors between nodes. */
  readonly between: readonly (readonly [name: string, type: TensorType])[];
}

const irVersion = 10;
/** ONNX's operators as of this version, but for models with an op that came later. ONNX Runtime knows most patterns that it fuses in this one. */
const opset = 21;
const laterOpsets: Readonly<Record<string, number>> = { Attention: 23 };

// Field numbers below are those of onnx.proto (github.com/onnx/onnx, IR version 10).

/** The bytes of an ONNX model file. */
export function encodeModel(model: ModelProto): Uint8Array {
  const writer = new BinaryWriter().tag(1, WireType.Varint).int64(irVersion);
  writer.tag(2, WireType.LengthDelimited).string("peft.js");
  writer.tag(7, WireType.LengthDelimited).bytes(encodeGraph(model));
  const version = Math.max(
    opset,
    ...new Set(model.nodes.map(({ opType, domain }) => (domain === "" ? (laterOpsets[opType] ?? opset) : opset))),
  );
  for (const [domain, since] of [
    ["", version],
    ["com.microsoft", 1],
  ] as const) {
    const entry = new BinaryWriter().tag(1, WireType.LengthDelimited).string(domain).tag(2, WireType.Varint).int64(since);
    writer.tag(8, WireType.LengthDelimited).bytes(entry.finish());
  }
  return writer.finish();
}

function encodeGraph({ nodes, initializers, external, inputs, outputs, between }: ModelProto): Uint8Array {
  const writer = new BinaryWriter();
  for (const node of nodes) writer.tag(1, WireType.LengthDelimited).bytes(encodeNode(node));
  writer.tag(2, WireType.LengthDelimited).string("peft");
  for (const [name, value] of initializers) writer.tag(5, WireType.LengthDelimited).bytes(encodeTensor(name, value));
  for (const [name, type] of external) writer.tag(5, WireType.LengthDelimited).bytes(encodeExternal(name, type));
  for (const [name, type] of inputs) writer.tag(11, WireType.LengthDelimited).bytes(encodeValueInfo(name, type));
  for (const [name, type] of outputs) writer.tag(12, WireType.LengthDelimited).bytes(encodeValueInfo(name, type));
  for (const [name, type] of between) writer.tag(13, WireType.LengthDelimited).bytes(encodeValueInfo(name, type));
  return writer.finish();
}

function encodeNode({ name: own, opType, domain, inputs, outputs, attributes }: NodeProto): Uint8Array {
  const writer = new BinaryWriter();
  for (const name of inputs) writer.tag(1, WireType.LengthDelimited).string(name);
  for (const name of outputs) writer.tag(2, WireType.LengthDelimited).string(name);
  writer.tag(3, WireType.LengthDelimited).string(own);
  writer.tag(4, WireType.LengthDelimited).string(opType);
  for (const [name, value] of Object.entries(attributes)) writer.tag(5, WireType.LengthDelimited).bytes(encodeAttribute(name, value));
  if (domain !== "") writer.tag(7, WireType.LengthDelimited).string(domain);
  return writer.finish();
}

function encodeAttribute(name: string, value: Attribute): Uint8Array {
  const writer = new BinaryWriter().tag(1, WireType.LengthDelimited).string(name);
  const kind = (type: number): BinaryWriter => writer.tag(20, WireType.Varint).int32(type);
  if (typeof value === "number") kind(2).tag(3, WireType.Varint).int64(value);
  else if (typeof value === "string") kind(3).tag(4, WireType.LengthDelimited).bytes(new TextEncoder().encode(value));
  else if ("float" in value) kind(1).tag(2, WireType.Bit32).float(value.float);
  else {
    kind(7);
    for (const each of value) writer.tag(8, WireType.Varint).int64(each);
  }
  return writer.finish();
}

function encodeTensor(name: string, { dtype, shape, data }: Tensor): Uint8Array {
  const writer = new BinaryWriter();
  for (const size of shape) writer.tag(1, WireType.Varint).int64(size);
  writer.tag(2, WireType.Varint).int32(elementType[dtype]);
  writer.tag(8, WireType.LengthDelimited).string(name);
  writer.tag(9, WireType.LengthDelimited).bytes(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return writer.finish();
}

function encodeExternal(name: string, { dtype, shape }: TensorType): Uint8Array {
  const writer = new BinaryWriter();
  for (const size of shape) writer.tag(1, WireType.Varint).int64(Number(size));
  writer.tag(2, WireType.Varint).int32(elementType[dtype]);
  writer.tag(8, WireType.LengthDelimited).string(name);
  const length = bytesPer[dtype] * shape.reduce<number>((product, size) => product * Number(size), 1);
  for (const [key, value] of [
    ["location", name],
    ["offset", "0"],
    ["length", String(length)],
  ] as const) {
    const entry = new BinaryWriter().tag(1, WireType.LengthDelimited).string(key).tag(2, WireType.LengthDelimited).string(value);
    writer.tag(13, WireType.LengthDelimited).bytes(entry.finish());
  }
  return writer.tag(14, WireType.Varint).int32(1).finish();
}

function encodeValueInfo(name: string, { dtype, shape }: TensorType): Uint8Array {
  const axes = new BinaryWriter();
  for (const size of shape) axes.tag(1, WireType.LengthDelimited).bytes(encodeDim(size));
  const tensor = new BinaryWriter().tag(1, WireType.Varint).int32(elementType[dtype]).tag(2, WireType.LengthDelimited).bytes(axes.finish());
  const type = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(tensor.finish());
  return new BinaryWriter().tag(1, WireType.LengthDelimited).string(name).tag(2, WireType.LengthDelimited).bytes(type.finish()).finish();
}

function encodeDim(size: Dim): Uint8Array {
  const writer = new BinaryWriter();
  return (
    typeof size === "number" ? writer.tag(1, WireType.Varint).int64(size) : writer.tag(2, WireType.LengthDelimited).string(size)
  ).finish();
}
