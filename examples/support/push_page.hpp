// holdfast: the page of push_gateway: a table and a chart of the feed, by server-sent events or WebSocket.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_PUSH_PAGE_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_PUSH_PAGE_HPP

#include <string_view>

namespace examples {

/// Needs nothing but the server. Both connections are open; the server-sent events fill the table. `window.feeds` counts for
/// each what has come: ids in order, missing, doubled, gaps, connections.
inline constexpr std::string_view push_page = R"page(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>push_gateway</title>
<style>
:root { --back: #fff; --text: #1c2430; --soft: #5c6878; --line: #dde3ea; --up: #0a7d4f; --down: #b3261e; --chart: #2563eb; }
@media (prefers-color-scheme: dark) {
  :root { --back: #12161c; --text: #e6eaf0; --soft: #97a3b4; --line: #2a323d; --up: #4cc38a; --down: #ff8178; --chart: #7aa2ff; }
}
body { margin: 0 auto; padding: 1.5rem; max-width: 62rem; background: var(--back); color: var(--text);
       font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0 0 1rem; }
h2 { font-size: 1rem; margin: 0 0 .4rem; }
.feeds { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .8rem; margin-bottom: 1rem; }
.feed { border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; }
.feed p { margin: 0; color: var(--soft); }
.state { font-weight: 600; color: var(--down); }
.state.open { color: var(--up); }
svg { width: 100%; height: 9rem; border: 1px solid var(--line); border-radius: 6px; }
polyline { fill: none; stroke: var(--chart); stroke-width: 2; vector-effect: non-scaling-stroke; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; margin-top: 1rem; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--soft); font-weight: 500; }
td.up { color: var(--up); }
td.down { color: var(--down); }
</style>
<h1>push_gateway: quotes as they change</h1>
<div class="feeds">
  <section class="feed"><h2>Server-sent events</h2><p><span class="state" id="sse-state">connecting</span></p><p id="sse-text"></p></section>
  <section class="feed"><h2>WebSocket</h2><p><span class="state" id="ws-state">connecting</span></p><p id="ws-text"></p></section>
</div>
<h2>Mean of all bids</h2>
<svg viewBox="0 0 300 100" preserveAspectRatio="none" role="img" aria-label="Mean of all bids over time"><polyline id="line" points=""/></svg>
<table><thead><tr><th>symbol<th>bid<th>ask<th>bid size<th>ask size</tr></thead><tbody id="rows"></tbody></table>
<script>
'use strict';
const rows = new Map(), history = [];
const feed = () => ({ last: '', received: 0, missing: 0, doubled: 0, gaps: 0, snapshots: 0, opened: 0 });
const feeds = window.feeds = { sse: feed(), ws: feed() };
const text = (id, value) => { document.getElementById(id).textContent = value; };

function state(name, value) {
  text(name + '-state', value);
  document.getElementById(name + '-state').className = 'state ' + value;
}

// An id is the epoch of the server's ring, a hyphen and a number: the next message has the next number; or that number alone.
// An id of Redis is a time in milliseconds and a number: a later message has a later one, and whether one is missing does
// not show.
const parts = id => id.includes('-') ? id.split('-') : ['', id];

function note(name, id, snapshot) {
  const f = feeds[name], before = parts(f.last), now = parts(id);
  if (snapshot) {
    ++f.snapshots;
    if (f.last) ++f.gaps;
  } else {
    const timed = /^\d{13}$/.test(now[0]);
    let step = Number(now[1]) - Number(before[1]);
    if (timed && f.last) step = Math.sign(Number(now[0]) - Number(before[0]) || step);
    if ((before[0] !== now[0] && !(timed && f.last)) || step > 1) f.missing += Math.max(step - 1, 1);
    if (step < 1) ++f.doubled;
    ++f.received;
  }
  f.last = id;
  text(name + '-text', `${f.received} messages, last ${now[1]}; missing ${f.missing}, doubled ${f.doubled}, ` +
    `gaps ${f.gaps}; connected ${f.opened} times`);
}

// The snapshot is read while the market goes on: a quote in it can be newer than the messages that follow.
function show(quotes, snapshot) {
  for (const q of quotes) {
    let row = rows.get(q.id);
    if (row && !snapshot && q.time < row.time) continue;
    if (!row && rows.size < 40) {
      row = document.createElement('tr');
      for (let i = 0; i !== 5; ++i) row.append(document.createElement('td'));
      rows.set(q.id, row);
      document.getElementById('rows').append(row);
    }
    if (!row) continue;
    row.children[1].className = row.bid > q.bid ? 'down' : row.bid < q.bid ? 'up' : '';
    row.bid = q.bid;
    row.time = q.time;
    [q.symbol, q.bid.toFixed(2), q.ask.toFixed(2), q.bid_size, q.ask_size].forEach((value, i) => { row.children[i].textContent = value; });
  }
  let sum = 0;
  for (const row of rows.values()) sum += row.bid;
  history.push(sum / rows.size);
  if (history.length > 300) history.shift();
  const low = Math.min(...history), high = Math.max(...history), range = high - low || 1;
  document.getElementById('line').setAttribute('points', history.map((value, i) =>
    `${i * 300 / Math.max(history.length - 1, 1)},${95 - 90 * (value - low) / range}`).join(' '));
}

// EventSource connects again by itself, with the last id, after the time that the server has named; but not after a
// response that is no stream, such as a proxy's.
function listen() {
  const events = new EventSource('/events?last=' + feeds.sse.last);
  events.onopen = () => { ++feeds.sse.opened; state('sse', 'open'); };
  events.onerror = () => {
    state('sse', 'connecting');
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 1000 + 4000 * Math.random());
  };
  events.onmessage = event => { note('sse', event.lastEventId, false); show(JSON.parse(event.data), false); };
  events.addEventListener('snapshot', event => { note('sse', event.lastEventId, true); show(JSON.parse(event.data), true); });
}
listen();

// A WebSocket does not: it says which message it has had last, and the server continues there.
function connect() {
  const socket = new WebSocket(location.href.replace(/^http/, 'ws').replace(/[^/]*$/, 'ws'));
  socket.onopen = () => { ++feeds.ws.opened; state('ws', 'open'); socket.send(feeds.ws.last); };
  socket.onmessage = event => {
    const message = JSON.parse(event.data);
    note('ws', message.id, message.event === 'snapshot');
  };
  socket.onclose = event => {
    state('ws', 'connecting');
    setTimeout(connect, event.code === 1012 ? 500 + 1500 * Math.random() : 1000 + 4000 * Math.random());
  };
}
connect();
</script>
</html>
)page";

} // namespace examples

#endif
