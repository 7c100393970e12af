import { examine, type Finding } from "../node/doctor.js";
import { verb } from "./verb.js";

/** `peft doctor`: what works here, and what to do about what does not. Fails only where nothing can be trained. */
export const doctorVerb = verb({
  name: "doctor",
  summary: "say what works here, and what to do about what does not",
  examples: ["peft doctor", "peft doctor --json"],
  flags: {},
  async run(output, _, __, signal) {
    const { paint } = output;
    const marks = { ok: paint.green("✓"), warn: paint.yellow("!"), fail: paint.red("✗") };
    const findings: Finding[] = [];
    for await (const finding of examine({ env: process.env, signal })) {
      findings.push(finding);
      output.say(`${marks[finding.status]} ${paint.bold(finding.name.padEnd(12))} ${finding.text}`);
      if (finding.hint !== null) output.say(`  ${" ".repeat(12)} ${paint.cyan("→")} ${finding.hint}`);
    }
    const works = findings.every(({ status }) => status !== "fail");
    output.emit({ works, findings });
    output.say(
      works ? "\nTraining works here: peft quickstart shows it." : `\n${paint.red("Training does not work here")} until this is mended.`,
    );
    return works ? 0 : 1;
  },
});
