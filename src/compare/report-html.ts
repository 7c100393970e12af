import { barPlot, confusionPlot, curvePlot, type Figure, frontPlot, looksOf } from "./plots.js";
import { type Comparison, cautions, groupRows, methodTable, testTable } from "./report.js";
import type { Findings } from "./summary.js";

/** The report as one HTML page that loads nothing. Throws nothing for a comparison without finished cells: the page then says so. */
export function htmlReport(comparison: Comparison): string {
  const { findings, setup } = comparison;
  const groups = groupRows(comparison);
  const largest = findings.methods[0]?.size ?? 0;
  const body = [
    `<header><h1>Which method for ${escaped(setup.data)}</h1>
<p class="lead">${findings.recommendation.map(escaped).join(" ")}</p>
${findings.sentences.length === 0 ? "" : `<ul>${findings.sentences.map((each) => `<li>${escaped(each)}</li>`).join("")}</ul>`}
<p class="small">${escaped(setup.task)} on ${escaped(setup.model)}: ${largest} of ${setup.train_rows} training rows, ${setup.eval_rows} rows judged (${escaped(setup.eval_source)}), ${escaped(setup.made)}, Peft.js ${escaped(setup.versions["peft.js"] ?? "")}.</p></header>`,
    section("Methods side by side", tableHtml("Methods side by side", methodTable(findings))),
    `<section><h2>Figures</h2><div class="figures">${figuresOf(findings).map(figureHtml).join("\n")}</div></section>`,
    section("Tests of pairs", tableHtml("Tests of pairs", testTable(findings))),
    groups === null ? "" : section("Groups", tableHtml("Groups", groups)),
    section("Worst mistakes side by side", mistakesHtml(findings)),
    section(
      "What the figures do and do not show",
      `<ul>${cautions(comparison)
        .map((each) => `<li>${escaped(each)}</li>`)
        .join("")}</ul>`,
    ),
    section("Learning rates", tableHtml("Learning rates", searchTable(findings))),
    section(
      "To repeat it",
      `<p>The same settings, seeds and rows give the same trainings on this machine. All cells stand in report.json.</p>
<pre tabindex="0" aria-label="Settings as JSON">${escaped(JSON.stringify(setup, null, 2))}</pre>`,
    ),
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Comparison of fine-tuning methods</title>
<style>${style}</style>
</head>
<body>
<main>
${body.filter((part) => part !== "").join("\n")}
</main>
</body>
</html>
`;
}

function figuresOf({ methods, headline, curves, confusion, energy }: Findings): readonly Figure[] {
  if (methods.length === 0) return [];
  const looks = looksOf([...new Set([...methods.map(({ method }) => method), ...curves.map(({ method }) => method)])]);
  const memory = methods.filter(({ peak_memory_bytes: bytes }) => bytes !== null);
  const several = new Set(curves.map(({ size }) => size)).size > 1;
  const counted = energy?.measured === false ? "Energy of training, estimated" : "Energy of training";
  return [
    frontPlot(methods, headline, looks),
    ...(several ? [curvePlot(curves, headline, looks)] : []),
    barPlot("Training time", "seconds", methods, (each) => each.train_seconds, looks),
    ...(memory.length === 0 ? [] : [barPlot("Peak memory", "MB", memory, (each) => each.peak_memory_bytes! / 1e6, looks)]),
    barPlot("Size of the adapter's files", "MB", methods, (each) => each.adapter_bytes / 1e6, looks),
    barPlot(counted, "joules", methods, (each) => each.joules, looks),
    ...(confusion === null ? [] : [confusionPlot(confusion)]),
  ];
}

function searchTable({ searches }: Findings): { readonly heads: readonly string[]; readonly rows: readonly (readonly string[])[] } {
  return {
    heads: ["method", "chosen", "tried: loss on held-out training rows", "rows", "held out"],
    rows: searches.map(({ method, learning_rate, tried, rows, held_rows }) => [
      method,
      String(learning_rate),
      tried.map((each) => `${each.learning_rate}: ${each.loss === null ? "not finite" : each.loss.toFixed(4)}`).join(", ") ||
        "default, not searched",
      `${rows}`,
      `${held_rows}`,
    ]),
  };
}

function mistakesHtml({ mistakes, methods }: Findings): string {
  if (mistakes.length === 0) return "";
  const heads = ["row", "text", "truth", ...methods.map(({ method }) => method)];
  const rows = mistakes.map(
    ({ where, text, truth, answers }) =>
      `<tr><th scope="row">${escaped(where)}</th><td class="text">${escaped(text)}</td><td>${escaped(truth)}</td>${answers
        .map(({ answer, wrong }) => `<td${wrong ? ' class="wrong"' : ""}>${wrong ? "✗ " : ""}${escaped(answer)}</td>`)
        .join("")}</tr>`,
  );
  return tableFrame("Worst mistakes", heads, rows);
}

function tableHtml(
  name: string,
  { heads, rows }: { readonly heads: readonly string[]; readonly rows: readonly (readonly string[])[] },
): string {
  if (rows.length === 0) return "";
  return tableFrame(
    name,
    heads,
    rows.map(
      ([first, ...rest]) => `<tr><th scope="row">${escaped(first!)}</th>${rest.map((cell) => `<td>${escaped(cell)}</td>`).join("")}</tr>`,
    ),
  );
}

function tableFrame(name: string, heads: readonly string[], rows: readonly string[]): string {
  return `<div class="scroll" tabindex="0" role="region" aria-label="${escaped(name)}: table"><table><thead><tr>${heads
    .map((head) => `<th scope="col">${escaped(head)}</th>`)
    .join("")}</tr></thead><tbody>${rows.join("\n")}</tbody></table></div>`;
}

function figureHtml({ svg, title, description }: Figure): string {
  return `<figure><h3>${escaped(title)}</h3>${svg}<figcaption>${escaped(description)}</figcaption></figure>`;
}

function section(title: string, content: string): string {
  return content === "" ? "" : `<section><h2>${escaped(title)}</h2>${content}</section>`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

const style = `
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
main { max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid #bbb; }
h3 { font-size: 1rem; margin: 0 0 .25rem; }
.lead { font-size: 1.1rem; padding: .75rem 1rem; border-left: 4px solid #0072B2; background: #f2f7fb; }
.small, figcaption { font-size: .875rem; color: #444; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; white-space: nowrap; }
tbody th { position: sticky; left: 0; background: #fff; }
td.text { white-space: normal; min-width: 14rem; }
td.wrong { color: #8a2c00; }
.figures { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
figure { margin: 0; break-inside: avoid; min-width: 0; }
figure svg { display: block; max-width: 100%; height: auto; }
pre { overflow: auto; max-height: 24rem; font-size: .8rem; background: #f6f6f6; padding: .75rem; }
@media print { main { max-width: none; padding: 0; } .scroll { overflow: visible; } table { font-size: .6rem; } th, td { white-space: normal; padding: .15rem .25rem; } pre { max-height: none; white-space: pre-wrap; } section { break-inside: auto; } }
`;
