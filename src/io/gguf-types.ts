/** A way in which GGUF packs a tensor's numbers: `block` of them (along a row) take `bytes`. */
export interface GgufType {
  readonly name: string;
  /** Numbers in a block. */
  readonly block: number;
  /** Bytes of a block. */
  readonly bytes: number;
}

/** The types that are read, by their numbers in the file (ggml.h, `enum ggml_type`; sizes from ggml-common.h). */
export const ggufTypes: ReadonlyMap<number, GgufType> = new Map([
  [0, { name: "F32", block: 1, bytes: 4 }],
  [1, { name: "F16", block: 1, bytes: 2 }],
  [2, { name: "Q4_0", block: 32, bytes: 18 }],
  [3, { name: "Q4_1", block: 32, bytes: 20 }],
  [6, { name: "Q5_0", block: 32, bytes: 22 }],
  [7, { name: "Q5_1", block: 32, bytes: 24 }],
  [8, { name: "Q8_0", block: 32, bytes: 34 }],
  [12, { name: "Q4_K", block: 256, bytes: 144 }],
  [13, { name: "Q5_K", block: 256, bytes: 176 }],
  [14, { name: "Q6_K", block: 256, bytes: 210 }],
  [30, { name: "BF16", block: 1, bytes: 2 }],
]);

/** The names of types that are not read, for messages. */
const others: Readonly<Record<number, string>> = {
  ...{ 4: "Q4_2", 5: "Q4_3", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S" },
  ...{ 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M" },
  ...{ 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4" },
};

/** What a type number is called. */
export function ggufTypeName(type: number): string {
  return ggufTypes.get(type)?.name ?? others[type] ?? `number ${type}`;
}
