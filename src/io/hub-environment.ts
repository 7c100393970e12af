import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";

/** Environment variables, passed in by the caller (`process.env` in the command line). */
export type Environment = Readonly<Record<string, string | undefined>>;

/** What the environment says of the hub; the names and defaults are those of Python's `huggingface_hub`. */
export interface HubSettings {
  /** `HF_ENDPOINT`, without a trailing slash. */
  readonly endpoint: string;
  /** `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`. */
  readonly cacheDir: string;
  /** `HF_TOKEN`, else the file that `hf auth login` writes. */
  readonly token: string | undefined;
  /** `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`. */
  readonly offline: boolean;
  /** Longest wait for an answer to begin, milliseconds: `HF_HUB_ETAG_TIMEOUT` (seconds), 5 s by default so that fallbacks are quick. */
  readonly answerTimeout: number;
  /** Longest silence within a transfer, milliseconds: `HF_HUB_DOWNLOAD_TIMEOUT` (seconds), 20 s by default. */
  readonly stallTimeout: number;
}

/** Reads the hub's settings from the environment, and the token from its file where no variable holds it. */
export async function hubSettings(env: Environment): Promise<HubSettings> {
  const home = expand(env, env.HF_HOME) ?? join(cacheHome(env), "huggingface");
  return {
    endpoint: (given(env.HF_ENDPOINT) ?? "https://huggingface.co").replace(/\/+$/, ""),
    cacheDir: expand(env, env.HF_HUB_CACHE) ?? expand(env, env.HUGGINGFACE_HUB_CACHE) ?? join(home, "hub"),
    token: await hubToken(env, home),
    offline: isTrue(env.HF_HUB_OFFLINE) || isTrue(env.TRANSFORMERS_OFFLINE),
    answerTimeout: milliseconds(env.HF_HUB_ETAG_TIMEOUT, 5),
    stallTimeout: milliseconds(env.HF_HUB_DOWNLOAD_TIMEOUT, 20),
  };
}

/** Our own cache, for what does not come from the hub: `PEFT_HOME`, else `$XDG_CACHE_HOME/peft.js`, else `~/.cache/peft.js`. */
export function peftHome(env: Environment): string {
  return expand(env, env.PEFT_HOME) ?? join(cacheHome(env), "peft.js");
}

/** Absolute path of what the user wrote, `~` being the home folder; undefined for an unset or empty variable. */
export function expand(env: Environment, path: string | undefined): string | undefined {
  const text = given(path);
  if (text === undefined) return undefined;
  return /^~(?=$|[/\\])/.test(text) ? join(userHome(env), text.slice(1)) : resolve(text);
}

async function hubToken(env: Environment, home: string): Promise<string | undefined> {
  const token = given(env.HF_TOKEN) ?? given(env.HUGGING_FACE_HUB_TOKEN);
  if (token !== undefined || isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return token;
  const text = await readFile(expand(env, env.HF_TOKEN_PATH) ?? join(home, "token"), "utf8").catch(() => "");
  return given(text);
}

function cacheHome(env: Environment): string {
  return expand(env, env.XDG_CACHE_HOME) ?? join(userHome(env), ".cache");
}

function userHome(env: Environment): string {
  return given(env.HOME) ?? homedir();
}

function given(text: string | undefined): string | undefined {
  return text?.trim() || undefined;
}

function isTrue(text: string | undefined): boolean {
  return /^(1|on|yes|true)$/i.test(text?.trim() ?? "");
}

function milliseconds(text: string | undefined, otherwise: number): number {
  const seconds = Number(text ?? otherwise);
  return 1000 * (seconds > 0 ? seconds : otherwise);
}
