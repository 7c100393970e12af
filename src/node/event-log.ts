import { appendFile, readFile } from "node:fs/promises";
import type { TrainEvent } from "../train/events.js";
import { writeWhole } from "./folder.js";

/** log.jsonl: a fresh run starts it anew, a resumed one cuts it back to its checkpoint and goes on. */
export function eventLog(path: string): {
  begin(start: TrainEvent & { event: "start" }): Promise<void>;
  add(event: TrainEvent): Promise<void>;
} {
  const line = (event: TrainEvent): string => `${JSON.stringify(event)}\n`;
  return {
    async begin(start) {
      if (start.resumed_from === null) return writeWhole(path, line(start));
      const before = await readFile(path, "utf8").catch(() => "");
      const kept = before.split("\n").filter((text) => isUpTo(text, start.resumed_from!));
      await writeWhole(path, kept.map((text) => `${text}\n`).join(""));
    },
    add: (event) => appendFile(path, line(event)),
  };
}

function isUpTo(line: string, step: number): boolean {
  try {
    const event = JSON.parse(line) as { event: string; step?: number };
    return event.event !== "end" && event.event !== "interrupted" && (event.step ?? 0) <= step;
  } catch {
    return false;
  }
}
