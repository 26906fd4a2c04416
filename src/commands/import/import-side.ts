/** Which sides of the proxy are wanted, where a file speaks of several. */
export const SIDES = ['gitaly', 'praefect', 'clients'] as const;
export type ImportSide = (typeof SIDES)[number];
