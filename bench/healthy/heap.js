// A healthy Node for bench/calm: heap.js MIB. Its heap grows to so many MiB, request by request, and is steady from then on;
// each request leaves garbage behind. What it is told and answers is described in app.py.
'use strict';
const readline = require('node:readline');

const PER_MIB = 64;
const most = Number(process.argv[2]) * PER_MIB;
const held = [];
let next = 0;

function request() {
  // About 16 KiB that stay for a while, and as much that does not.
  const session = Array.from({ length: 100 }, (_, index) => ({ id: next + index, name: `session ${next} ${index}`, seen: [next, index] }));
  const waste = session.map((entry) => ({ ...entry, name: entry.name + '!' }));
  if (held.length < most) held.push(session);
  else held[next % most] = session;
  next += 1;
  return waste.length;
}

while (held.length < most) request();
console.log('ready');
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const begun = process.hrtime.bigint();
  const span = BigInt(Math.round(Number(line.split(' ')[1]) * 1e9));
  let requests = 0;
  while (process.hrtime.bigint() - begun < span) {
    request();
    requests += 1;
  }
  console.log(`did ${requests} ${Number(process.hrtime.bigint() - begun) / 1e9}`);
});
