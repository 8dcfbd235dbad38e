"use strict";
// The page of `keyvalue-nats dev --ui`. Texts of actors are only ever set as textContent: none of them is markup.

const REFRESH_MS = 1000; // a person sees a change within a second; each refresh asks every provider process once
const CALLS_SHOWN = 100; // rows of the table of calls: more would only slow the browser down

const by = (id) => document.getElementById(id);

function cell(text, ...classes) {
  const made = document.createElement("td");
  made.textContent = text;
  made.classList.add(...classes);
  return made;
}

function row(...cells) {
  const made = document.createElement("tr");
  made.append(...cells);
  return made;
}

async function ask(path, options) {
  const answer = await fetch(path, options);
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error || answer.statusText);
  return value;
}

function trouble(text) {
  by("trouble").textContent = text;
  by("trouble").hidden = !text;
}

// --- the form

// Split a line into words as a shell does: quotes keep spaces together, a backslash keeps the next character.
function words(line) {
  const found = [];
  let word = "", quote = "", isWord = false;
  for (let i = 0; i < line.length; i++) {
    const char = line[i];
    if (char === "\\" && quote !== "'" && i + 1 < line.length) { word += line[++i]; isWord = true; }
    else if (quote) { if (char === quote) quote = ""; else word += char; }
    else if (char === '"' || char === "'") { quote = char; isWord = true; }
    else if (/\s/.test(char)) { if (isWord) found.push(word); word = ""; isWord = false; }
    else { word += char; isWord = true; }
  }
  if (quote) throw new Error(`a ${quote} is not closed`);
  if (isWord) found.push(word);
  return found;
}

by("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const result = by("result");
  result.className = "";
  try {
    const expires = by("expires").value.trim();
    if (!/^[0-9]*$/.test(expires)) throw new Error("expires: expected a number of seconds");
    const answer = await ask("/call", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ words: words(by("words").value), expires: expires ? Number(expires) : null }),
    });
    if (answer.error) throw new Error(answer.error);
    const lines = answer.lines.length ? answer.lines.join("\n") : "(no value)";
    result.textContent = `${lines}\n${answer.operation}, ${answer.microseconds} µs`;
  } catch (error) {
    result.className = "bad";
    result.textContent = error.message;
  }
  refresh();
});

// --- calls

let callsInSecond = 0;

function showCall(call) {
  by("no-calls").hidden = true;
  callsInSecond++;
  const time = new Date(call.time_ms).toLocaleTimeString([], { hour12: false });
  const shown = row(
    cell(time, "quiet"), cell(call.operation), cell(call.key),
    cell(call.microseconds ?? "", "number"), cell(call.instance ? `#${call.instance}` : "", "quiet"));
  if (call.error) {
    shown.classList.add("bad");
    shown.title = call.error;
    shown.children[2].textContent += ` ${call.error}`;
  }
  by("calls").prepend(shown);
  while (by("calls").children.length > CALLS_SHOWN) by("calls").lastChild.remove();
}

setInterval(() => {
  by("rate").textContent = callsInSecond ? `${callsInSecond} per second` : "";
  callsInSecond = 0;
}, 1000);

const source = new EventSource("/calls");
source.onopen = () => { by("calls").replaceChildren(); }; // after a reconnect the latest calls come again
source.onmessage = (event) => showCall(JSON.parse(event.data));

// --- keys

let pages = 1;

by("prefix").addEventListener("input", () => { pages = 1; refresh(); });
by("more").addEventListener("click", () => { pages++; refresh(); });

async function showKeys() {
  const rows = [];
  let cursor = "";
  for (let page = 0; page < pages; page++) {
    const query = new URLSearchParams({ prefix: by("prefix").value, cursor });
    const found = await ask(`/keys?${query}`);
    rows.push(...found.keys);
    cursor = found.cursor;
    if (!cursor) break;
  }
  by("keys").replaceChildren(...rows.map((one) => one.error
    ? row(cell(one.key), cell(""), cell(one.error, "bad"), cell(""), cell(""))
    : row(cell(one.key), cell(one.kind, "quiet"), cell(one.value), cell(one.revision || "", "number"),
          cell(one.expires_seconds ? `${one.expires_seconds} s` : "", "number"))));
  by("no-keys").hidden = rows.length > 0;
  by("more").hidden = !cursor;
}

// --- the link, the processes and the replicas

async function showState() {
  const state = await ask("/state");
  by("lattice").textContent = `lattice ${state.lattice}`;
  const caller = state.caller;
  const values = { "link name": state.link_name, [caller.kind]: caller.id, ...state.values };
  by("expires").hidden = !caller.knows_entries;
  by("keys-table").classList.toggle("without-entries", !caller.knows_entries);
  by("link").replaceChildren(...Object.entries(values).flatMap(([name, text]) => {
    const label = document.createElement("dt"), value = document.createElement("dd");
    [label.textContent, value.textContent] = [name, text];
    return [label, value];
  }));
  by("instances").replaceChildren(...state.instances.map((one) => row(
    cell(`#${one.number}`),
    cell(one.is_healthy ? "well" + (one.message ? `: ${one.message}` : "") : one.message, one.is_healthy ? "good" : "bad"),
    cell(one.succeeded + one.failed, "number"), cell(one.failed, "number"),
    cell(one.succeeded ? Math.round(one.seconds / one.succeeded * 1e6) : "", "number"))));
  const silent = state.silent_instances;
  trouble(silent > 0 ? `${silent} provider process${silent > 1 ? "es do" : " does"} not answer` : "");
  showReplicas(state.instances);
}

function showReplicas(instances) {
  const replicas = instances.flatMap((one) => one.caches.map((cache) => ({ number: one.number, ...cache })));
  by("replicas-section").hidden = replicas.length === 0;
  const makers = [...new Set(replicas.flatMap((one) => Object.keys(one.seen)))].sort();
  const names = new Map(replicas.map((one) => [one.replica, `#${one.number}`]));
  const heading = ["", "keys", "state", "lag", ...makers.map((id) => `of ${names.get(id) || id.slice(0, 8)}`)];
  by("replicas-head").replaceChildren(row(...heading.map((text, index) => {
    const made = document.createElement("th");
    made.textContent = text;
    if (index !== 0 && index !== 2) made.className = "number";
    return made;
  })));
  const most = Object.fromEntries(makers.map((id) => [id, Math.max(...replicas.map((one) => one.seen[id] || 0))]));
  by("replicas").replaceChildren(...replicas.map((one) => row(
    cell(`#${one.number}`), cell(one.keys, "number"),
    cell(!one.is_connected ? "cut off" : one.is_joined ? "joined" : "catching up", one.is_joined && one.is_connected ? "good" : "bad"),
    cell(one.missing_events, "number"),
    ...makers.map((id) => cell(one.seen[id] || 0, "number", (one.seen[id] || 0) < most[id] ? "bad" : "good")))));
}

let isAsking = false;

async function refresh() {
  if (isAsking || document.hidden) return;
  isAsking = true;
  try {
    await Promise.all([showState(), showKeys()]);
  } catch (error) {
    trouble(error instanceof TypeError ? "keyvalue-nats dev has ended" : error.message);
  } finally {
    isAsking = false;
  }
}

refresh();
setInterval(refresh, REFRESH_MS);
