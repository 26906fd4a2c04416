/**
 * An event handler whose exception goes to `onFault`. An exception from the callback of a socket or timer would otherwise not
 * be associated with its connection, which would then never end.
 */
export function guarded<Arguments extends readonly unknown[]>(
  onFault: (error: Error) => void,
  handler: (...args: Arguments) => void,
): (...args: Arguments) => void {
  return (...args) => {
    try {
      handler(...args);
    } catch (error) {
      onFault(error instanceof Error ? error : new Error(String(error)));
    }
  };
}
