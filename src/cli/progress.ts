import type { Progress } from "../io/hub.js";
import type { Output } from "./output.js";

/** Shows downloads: a live line on a terminal, a line a file elsewhere. */
export function printProgress(output: Output): (progress: Progress) => void {
  const announced = new Set<string>();
  return (progress) => {
    if (progress.kind === "note") return output.note(progress.text);
    const { file, loaded, total } = progress;
    const share = total > 0 ? ` ${Math.floor((100 * loaded) / total)} % of ${(total / 1e6).toFixed(1)} MB` : "";
    output.progress(`fetching ${file}${share}`);
    if (!output.live && !announced.has(file)) output.note(`fetching ${file}`);
    announced.add(file);
  };
}
