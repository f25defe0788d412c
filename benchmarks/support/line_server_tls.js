// A line server in Node over TLS, for the benchmarks: sends back what it reads, drops who is silent for two minutes. Its
// listening socket is descriptor 3; its arguments are the files of certificate and key.
// SPDX-License-Identifier: BSL-1.0
'use strict';
const fs = require('fs');
const tls = require('tls');

const files = { cert: fs.readFileSync(process.argv[2]), key: fs.readFileSync(process.argv[3]) };
tls.createServer(files, (peer) => {
  peer.setNoDelay(true);
  peer.setTimeout(120000, () => peer.destroy());
  peer.on('data', (line) => peer.write(line));
  peer.on('error', () => peer.destroy());
}).listen({ fd: 3 });
