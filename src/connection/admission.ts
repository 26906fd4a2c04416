/** What a connection tells of its client, for the limits of its port. */
export interface Admission {
  /**
   * Its PROXY header has named its client's address.
   * @throws ConnectionEnd if a limit is exceeded by that
   */
  identified(address: string): void;
  /** It has presented a verified certificate, or upstream has answered it. */
  authenticated(): void;
}

/** Told of a connection from its accept to its end. */
export interface ConnectionWatcher {
  identified(address: string): void;
  authenticated(): void;
  ended(): void;
}
