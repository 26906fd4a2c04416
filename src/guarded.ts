/**
 * An event handler whose exception goes to `onFault`: thrown out of a socket's or timer's callback it would reach nobody who
 * knows the connection, which would then never end.
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
