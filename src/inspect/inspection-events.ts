import type { SidechannelEvents } from './backchannel/sidechannel.js';
import type { CallEvents } from './grpc/call.js';

/** The events of an inspected connection. Calls are synchronous and must not throw. */
export interface InspectionEvents extends CallEvents, SidechannelEvents {}
