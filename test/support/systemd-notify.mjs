#!/usr/bin/env node
// In systemd-notify's place: says what it was told, and by whom, to a stream socket that the test listens on, and ends
// when the test has taken it.
import { connect } from 'node:net';

const told = { assignments: process.argv.slice(2), sender: process.ppid };
connect(process.env.NOTIFY_SOCKET).end(JSON.stringify(told)).resume();
