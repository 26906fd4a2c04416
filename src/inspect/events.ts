import type { SidechannelEvents } from './backchannel/sidechannel.js';
import type { CallEvents } from './grpc/call.js';

/** What is told of a connection as it is followed. Calls are synchronous and must not throw. */
export interface InspectionEvents extends CallEvents, SidechannelEvents {}
