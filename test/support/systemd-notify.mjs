#!/usr/bin/env node
// Stands in for systemd-notify: sends its arguments and the process id of its parent to a stream socket on which the
// test listens, and exits once the test has read them.
import { connect } from 'node:net';

const { NOTIFY_SOCKET } = process.env;
if (NOTIFY_SOCKET === undefined) throw new Error('NOTIFY_SOCKET is not set');
const sent = { assignments: process.argv.slice(2), sender: process.ppid };
connect(NOTIFY_SOCKET).end(JSON.stringify(sent)).resume();
