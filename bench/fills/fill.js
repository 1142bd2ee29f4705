// A heap of small objects that grows, flat out. With the argument `idle` it ends at once.
'use strict';

const held = [];

function grow() {
  const block = [];
  for (let index = 0; index < 10000; index++) {
    block.push({ index, name: `object ${index}`, values: [index, index + 0.5] });
  }
  held.push(block);
  // Signals are heard between two blocks.
  setImmediate(grow);
}

if (!process.argv.includes('idle')) {
  grow();
}
