import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import type { ConfusionTable, CurvePoint, MethodSummary } from "./summary.js";

/** Okabe and Ito's colours (2008), which colour-blind readers can tell apart; methods beyond the eighth take them again with another sign. */
const colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8F8600"] as const;
const symbols = ["circle", "square", "triangle", "diamond", "star", "cross", "wye", "times", "asterisk"] as const;

/** Pixels; small enough for a phone, larger screens show two side by side. */
const width = 440;
const mostLabels = 12;

/** A drawing as SVG text, with what it shows in words. */
export interface Figure {
  readonly svg: string;
  readonly title: string;
  readonly description: string;
}

/** Draws marks of Plot as SVG text that screen readers have words for. */
export function drawn(title: string, description: string, options: Plot.PlotOptions): Figure {
  const { document } = parseHTML("<html><body></body></html>");
  const svg = Plot.plot({ document, width, height: 320, marginLeft: 56, marginBottom: 44, ...options });
  svg.setAttribute("font-size", "12");
  // Screen readers get the figure's own words; ARIA forbids labels on the groups within an image.
  for (const part of svg.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${title}. ${description}`);
  return { svg: svg.outerHTML, title, description };
}

/** Which colour and sign a method has in all figures. */
export interface Look {
  readonly colour: string;
  readonly symbol: (typeof symbols)[number];
}

/** The looks of methods, by their order. */
export function looksOf(methods: readonly string[]): ReadonlyMap<string, Look> {
  return new Map(methods.map((method, i) => [method, { colour: colours[i % colours.length]!, symbol: symbols[i % symbols.length]! }]));
}

type Looks = ReadonlyMap<string, Look>;

/** The headline metric against trained numbers on a logarithmic axis, with intervals; the Pareto front is a line, and its points are filled. */
export function frontPlot(methods: readonly MethodSummary[], headline: string, looks: Looks): Figure {
  const points = methods.flatMap((each) => (each.score.value === null ? [] : [{ ...each, ...each.score, value: each.score.value }]));
  const front = points.filter(({ pareto }) => pareto).sort((a, b) => a.trained_parameters - b.trained_parameters);
  const names = front.map(({ method }) => method).join(", ");
  const counts = points.map((each) => each.trained_parameters);
  const middle = Math.sqrt(Math.min(...counts) * Math.max(...counts)); // names stand towards the middle, where there is room
  return drawn(`${headline} and trained numbers`, `No other method is at least as good with fewer trained numbers than: ${names}.`, {
    x: { type: "log", label: "trained numbers →", tickFormat: "~s", grid: true, ticks: 5 },
    y: { label: `↑ ${headline}`, grid: true, nice: true },
    inset: 16,
    marginRight: 20,
    marks: [
      Plot.line(front, { x: "trained_parameters", y: "value", stroke: "#666", strokeDasharray: "4 3" }),
      Plot.ruleX(points, {
        x: "trained_parameters",
        y1: "low",
        y2: "high",
        stroke: (d: MethodSummary) => looks.get(d.method)!.colour,
        strokeWidth: 2,
      }),
      ...points.map((point) =>
        Plot.dot([point], {
          x: "trained_parameters",
          y: "value",
          r: 6,
          symbol: looks.get(point.method)!.symbol,
          stroke: looks.get(point.method)!.colour,
          fill: point.pareto ? looks.get(point.method)!.colour : "white",
          strokeWidth: 2,
        }),
      ),
      ...[false, true].map((right) =>
        Plot.text(
          points.filter(({ trained_parameters: count }) => count > middle === right),
          {
            x: "trained_parameters",
            y: "value",
            text: "method",
            dx: right ? -9 : 9,
            dy: -9,
            textAnchor: right ? "end" : "start",
            fill: "#222",
            stroke: "white",
            strokeWidth: 3,
          },
        ),
      ),
    ],
  });
}

/** The headline metric over training sizes, with intervals as bands. */
export function curvePlot(curves: readonly CurvePoint[], headline: string, looks: Looks): Figure {
  const points = curves.filter(({ value }) => value !== null);
  const methods = [...new Set(points.map(({ method }) => method))];
  const best = (size: number): string =>
    points
      .filter((point) => point.size === size)
      .reduce((a, b) => ((headline === "loss" ? b.value! < a.value! : b.value! > a.value!) ? b : a)).method;
  const sizes = [...new Set(points.map(({ size }) => size))].sort((a, b) => a - b);
  const ends = methods.map((method) => points.findLast((point) => point.method === method)!);
  const reach = points.flatMap(({ low, high, value }) => [low ?? value!, high ?? value!]);
  const heights = spread(
    ends.map(({ value }) => value!),
    (Math.max(...reach) - Math.min(...reach)) * labelShare,
  );
  return drawn("Learning curves", `Ahead with each number of training rows: ${sizes.map((size) => `${size}: ${best(size)}`).join(", ")}.`, {
    x: { type: "log", label: "training rows →", grid: true, ticks: sizes, tickFormat: (value: number) => String(value) },
    y: { label: `↑ ${headline}`, grid: true, nice: true },
    marginRight: 84,
    marks: methods.flatMap((method) => {
      const own = points.filter((point) => point.method === method);
      const { colour, symbol } = looks.get(method)!;
      return [
        Plot.areaY(own, { x: "size", y1: "low", y2: "high", fill: colour, fillOpacity: 0.12 }),
        Plot.line(own, { x: "size", y: "value", stroke: colour, strokeWidth: 2 }),
        Plot.dot(own, { x: "size", y: "value", stroke: colour, fill: "white", symbol, r: 4 }),
        Plot.text([{ method, size: own.at(-1)!.size, height: heights[methods.indexOf(method)]! }], {
          x: "size",
          y: "height",
          text: "method",
          dx: 8,
          textAnchor: "start",
          fill: "#222",
          stroke: "white",
          strokeWidth: 3,
        }),
      ];
    }),
  });
}

/** A label's height as a share of the curves' plot. */
const labelShare = 0.055;

/** Where labels stand that belong at `values`: as near to them as can be (least squares) with at least `gap` between any two, in the same order. */
export function spread(values: readonly number[], gap: number): readonly number[] {
  const order = values.map((_, i) => i).sort((a, b) => values[a]! - values[b]!);
  const blocks: { sum: number; members: number[] }[] = [];
  for (const [rank, i] of order.entries()) {
    let block = { sum: values[i]! - rank * gap, members: [i] };
    for (
      let last = blocks.at(-1);
      last !== undefined && last.sum / last.members.length > block.sum / block.members.length;
      last = blocks.at(-1)
    ) {
      blocks.pop();
      block = { sum: last.sum + block.sum, members: [...last.members, ...block.members] };
    }
    blocks.push(block);
  }
  const flat = blocks.flatMap(({ sum, members }) => members.map((i) => ({ i, height: sum / members.length })));
  const places: number[] = [];
  for (const [rank, { i, height }] of flat.entries()) places[i] = height + rank * gap;
  return places;
}

/** Of figures that lie further apart than this the small ones would be no bars to speak of: they are points on a logarithmic axis. */
const widest = 50;

/** Bars of one figure for each method. */
export function barPlot(
  title: string,
  unit: string,
  methods: readonly MethodSummary[],
  value: (method: MethodSummary) => number,
  looks: Looks,
): Figure {
  const data = methods.map((each) => ({ method: each.method, value: value(each) })).sort((a, b) => a.value - b.value);
  const shown = (number: number): string => (number >= 100 ? number.toFixed(0) : number.toPrecision(3));
  const logarithmic = data.length > 0 && data[0]!.value > 0 && data.at(-1)!.value > widest * data[0]!.value;
  const places = { x: "value", y: "method", fill: ({ method }: { method: string }) => looks.get(method)!.colour } as const;
  return drawn(title, `In ${unit}: ${data.map((each) => `${each.method} ${shown(each.value)}`).join(", ")}.`, {
    height: 60 + 26 * data.length,
    marginLeft: 100,
    marginRight: 48,
    x: logarithmic
      ? { type: "log", label: `${unit}, logarithmic →`, grid: true, nice: true, ticks: 4, tickFormat: "~g" }
      : { label: `${unit} →`, grid: true, zero: true, nice: true },
    y: { label: null, domain: data.map(({ method }) => method) },
    marks: [
      logarithmic ? Plot.dot(data, { ...places, r: 5 }) : Plot.barX(data, { ...places, insetTop: 2, insetBottom: 2 }),
      Plot.text(data, {
        x: "value",
        y: "method",
        text: (each: { value: number }) => shown(each.value),
        dx: logarithmic ? 9 : 4,
        textAnchor: "start",
        fill: "#222",
      }),
      ...(logarithmic ? [] : [Plot.ruleX([0])]),
    ],
  });
}

/** How often each label met each answer; of many labels those that are confused most. */
export function confusionPlot({ method, seed, labels, counts }: ConfusionTable): Figure {
  const confused = labels
    .flatMap((_, i) => labels.map((__, j) => ({ i, j, count: i === j ? 0 : counts[i]![j]! })))
    .filter(({ count }) => count > 0)
    .sort((a, b) => b.count - a.count);
  const few = labels.length <= mostLabels;
  const chosen = few
    ? labels.map((_, i) => i)
    : [...new Set(confused.flatMap(({ i, j }) => [i, j]))].slice(0, mostLabels).sort((a, b) => a - b);
  const short = (label: number): string => (labels[label]!.length > 16 ? `${labels[label]!.slice(0, 15)}…` : labels[label]!);
  const cells = chosen.flatMap((i) => {
    const total = counts[i]!.reduce((a, b) => a + b, 0);
    return chosen.map((j) => ({
      truth: short(i),
      answer: short(j),
      count: counts[i]![j]!,
      share: total === 0 ? 0 : counts[i]![j]! / total,
    }));
  });
  const most = confused.slice(0, 3).map(({ i, j, count }) => `${labels[i]} taken for ${labels[j]} ${count} times`);
  const domain = chosen.map(short);
  const part = few ? "" : ` The ${chosen.length} labels of ${labels.length} that are confused most.`;
  return drawn(
    `Confusion matrix of ${method}, seed ${seed}`,
    `Rows are true labels, columns answers.${part} ${most.length === 0 ? "Nothing was confused." : `Most confused: ${most.join("; ")}.`}`,
    {
      height: 150 + 24 * domain.length,
      marginLeft: 130,
      marginTop: 16,
      marginBottom: 120,
      x: { label: null, domain, tickRotate: -50 },
      y: { label: null, domain },
      color: { type: "linear", range: ["#ffffff", "#0072B2"], domain: [0, 1] },
      marks: [
        Plot.cell(cells, { x: "answer", y: "truth", fill: "share", stroke: "#ccc" }),
        Plot.text(cells, {
          x: "answer",
          y: "truth",
          text: (each: { count: number }) => (each.count === 0 ? "" : String(each.count)),
          fill: (each: { share: number }) => (each.share > 0.5 ? "white" : "#222"),
        }),
      ],
    },
  );
}
