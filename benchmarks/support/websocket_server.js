// A WebSocket server with Node's ws, for the benchmarks: sends each message back. Its listening socket is descriptor 3.
// SPDX-License-Identifier: BSL-1.0
const http = require('http');
const { WebSocketServer } = require('ws');

const server = http.createServer();
new WebSocketServer({ server, perMessageDeflate: false }).on('connection', (peer) => {
  peer.on('message', (data, binary) => peer.send(data, { binary }));
  peer.on('error', () => {});
});
server.listen({ fd: 3 });
