/** The error that `run` throws or rejects with. Throws when it does not. */
export async function failure(run: () => unknown): Promise<Error & { readonly code?: string; readonly hint?: string }> {
  try {
    await run();
  } catch (error) {
    if (error instanceof Error) return error;
    throw new Error(`not an Error: ${String(error)}`);
  }
  throw new Error("expected an error, but nothing failed");
}
