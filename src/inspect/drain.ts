/** Takes a connection out of use: what is open on it may finish, and nothing new begins. */
export interface Drain {
  /** Nothing is open on it, and nothing can begin: it can be closed. `false` while its calls cannot be followed. */
  readonly finished: boolean;
  /** Whether the client has been sent GO AWAY, and so closes the connection itself. */
  readonly announced: boolean;
  /** The client has had enough time to answer: streams that it begins from now on are not forwarded. */
  insist(): void;
}
