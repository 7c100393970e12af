import type { Reporter, TestModule } from "vitest/node";

/** Ends the run with `tests: N passed, N failed`, after a line for each test that was skipped with a reason. A file that cannot be loaded, a failed hook and a stray error count as failures. */
export default class TestCount implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    let passed = 0;
    let failed = errors.length;
    const notes: string[] = [];
    for (const module of modules) {
      failed += module.errors().length;
      for (const suite of module.children.allSuites()) failed += suite.errors().length;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === "passed") passed += 1;
        else if (result.state === "failed") failed += 1;
        else if (result.state === "skipped" && result.note !== undefined) notes.push(`skipped: ${test.fullName}: ${result.note}`);
      }
    }
    // At exit, so that nothing comes after it.
    process.once("exit", () => process.stdout.write(`${[...notes, `tests: ${passed} passed, ${failed} failed`].join("\n")}\n`));
  }
}
