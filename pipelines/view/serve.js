"use strict";
// The page of `denoise serve`: a queue of uploads, each file with its view, strength, model and download.

(() => {
  const token = location.hash.slice(1) || sessionStorage.getItem("token") || "";
  sessionStorage.setItem("token", token);
  history.replaceState(null, "", location.pathname); // the token is not left in the address
  const authorised = { Authorization: `Bearer ${token}` };
  const items = new Map();
  let models = [];
  let pending = [], sending = 0;

  function complain(sentence) {
    const message = one("#message");
    message.textContent = sentence;
    message.hidden = !sentence;
  }

  async function ask(path, options = {}) {
    const answer = await fetch(path, { ...options, headers: { ...authorised, ...options.headers } })
      .catch(() => { throw new Error("The program has ended: start denoise serve again."); });
    if (!answer.ok) {
      const failure = new Error((await answer.json().catch(() => ({}))).error || `failed (${answer.status})`);
      failure.status = answer.status;
      throw failure;
    }
    return answer;
  }
  const post = (path, data) => ask(path, { method: "POST", body: JSON.stringify(data) });
  const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

  // ---- uploads ------------------------------------------------------------------------------------

  function list(name, item) {
    const section = one("#item").content.firstElementChild.cloneNode(true);
    Object.assign(item, { name, section });
    one(".item-name", section).textContent = name;
    one("#list").append(section);
    items.set(item, item);
    mark(item, "waiting");
    return item;
  }

  function add(file, name) {
    pending.push(list(name, { file, id: null, state: null, asked: one("#model").value }));
    next();
  }

  // A page that is loaded again shows what this session holds.
  async function resume() {
    const held = (await (await ask("/api/files")).json())
      .map(state => list(state.name, { file: null, id: state.id, state, asked: state.asked }));
    for (const item of held) {
      controls(item);
      await follow(item).catch(failure => fail(item, failure));
    }
  }

  function mark(item, status) {
    const badge = one(".badge", item.section);
    badge.textContent = status;
    badge.className = `badge ${status}`;
    one("progress", item.section).hidden = !["sending", "cleaning"].includes(status);
    if (status === "cleaning") one("progress", item.section).removeAttribute("value");
    item.status = status;
    count();
  }

  function count() {
    const all = [...items.values()], done = all.filter(item => ["ok", "salvaged"].includes(item.status));
    const failed = all.filter(item => item.status === "failed");
    one("#count").textContent = `${done.length} of ${all.length} done${failed.length ? `, ${failed.length} failed` : ""}`;
    one("#tools").hidden = !all.length;
    one("#download-all").disabled = !done.length;
  }

  function next() {
    while (sending < 2 && pending.length) {
      sending += 1;
      send(pending.shift()).finally(() => { sending -= 1; next(); });
    }
  }

  function upload(item) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", "/api/files");
      request.setRequestHeader("Authorization", authorised.Authorization);
      request.setRequestHeader("X-Name", encodeURIComponent(item.name));
      request.setRequestHeader("X-Model", item.asked);
      request.upload.addEventListener("progress", event => {
        if (event.lengthComputable) one("progress", item.section).value = event.loaded / event.total;
      });
      request.addEventListener("load", () => resolve(request));
      request.addEventListener("error", () => reject(new Error("The program has ended, or refused the file.")));
      request.send(item.file);
    });
  }

  async function send(item) {
    try {
      for (;;) {
        mark(item, "sending");
        const answer = await upload(item);
        const data = JSON.parse(answer.responseText || "{}");
        if (answer.status === 429) { mark(item, "waiting"); await pause(500); continue; }
        if (answer.status !== 201) throw new Error(data.error || `failed (${answer.status})`);
        item.id = data.id;
        item.file = null;
        break;
      }
      controls(item);
      await follow(item);
    } catch (failure) {
      fail(item, failure);
    }
  }

  function fail(item, failure) {
    mark(item, "failed");
    const text = document.createElement("p");
    text.className = "error";
    text.textContent = failure.message;
    one(".view", item.section).replaceChildren(text);
  }

  async function follow(item) {
    mark(item, "cleaning");
    let state;
    for (;;) {
      state = await (await ask(`/api/files/${item.id}`)).json();
      if (!["waiting", "cleaning"].includes(state.status)) break;
      if (state.share) one("progress", item.section).value = state.share;
      await pause(300);
    }
    item.state = state;
    await show(item);
    mark(item, state.status);
    fill(item);
  }

  async function show(item) {
    const view = one(".view", item.section);
    view.innerHTML = await (await ask(`/api/files/${item.id}/view`)).text(); // escaped by the server
    for (const heading of all("h2", view)) heading.remove();
    setUp(view);
  }

  // ---- one file -----------------------------------------------------------------------------------

  function fill(item) {
    const { section, state } = item, choice = one(".model", section);
    one(".controls", section).hidden = false;
    for (const part of [one(".download", section), one(".strength", section).parentElement]) part.hidden = state.status === "failed";
    one(".strength", section).value = String(100 * state.strength);
    one("output", section).textContent = `${Math.round(100 * state.strength)} %`;
    const fitting = models.filter(model => !state.modality || model.cleans.includes(state.modality));
    const chosen = choice.value || item.asked;
    choice.replaceChildren(new Option("chosen for each file", ""), ...fitting.map(model => new Option(model.name, model.name)));
    choice.value = chosen;
    item.asked = chosen;
  }

  function controls(item) {
    const section = item.section;
    const guarded = action => async () => {
      complain("");
      try { await action(); } catch (failure) { complain(failure.message); }
    };
    const strength = one(".strength", section);
    strength.addEventListener("input", () => { one("output", section).textContent = `${strength.value} %`; });
    strength.addEventListener("change", guarded(async () => {
      item.state = await (await post(`/api/files/${item.id}/strength`, { strength: strength.value / 100 })).json();
      await show(item);
    }));
    one(".model", section).addEventListener("change", guarded(async () => {
      item.asked = one(".model", section).value;
      await post(`/api/files/${item.id}/model`, { model: item.asked });
      await follow(item);
    }));
    one(".download", section).addEventListener("click", guarded(() => download([item])));
    one(".remove", section).addEventListener("click", guarded(() => remove(item)));
  }

  async function download(chosen) {
    const { path } = await (await post("/api/tickets", { ids: chosen.map(item => item.id) })).json();
    const link = document.createElement("a");
    link.href = path;
    link.download = "";
    link.click();
  }

  async function remove(item) {
    pending = pending.filter(other => other !== item);
    if (item.id) await ask(`/api/files/${item.id}`, { method: "DELETE" }).catch(failure => { if (failure.status !== 404) throw failure; });
    item.section.remove();
    items.delete(item);
    count();
  }

  // ---- choosing -----------------------------------------------------------------------------------

  async function entries(entry, prefix = "") {
    if (entry.isFile) return [[await new Promise((resolve, reject) => entry.file(resolve, reject)), prefix + entry.name]];
    const reader = entry.createReader(), found = [];
    for (;;) {
      const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!part.length) break;
      for (const child of part) found.push(...await entries(child, `${prefix}${entry.name}/`));
    }
    return found;
  }

  const drop = one("#drop");
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, event => event.preventDefault());
  document.addEventListener("dragover", () => drop.classList.add("over"));
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", async event => {
    drop.classList.remove("over");
    const dropped = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry()).filter(Boolean);
    for (const entry of dropped) for (const [file, name] of await entries(entry)) add(file, name);
  });
  for (const [button, input] of [["#choose", "#files"], ["#choose-folder", "#folder"]]) {
    one(button).addEventListener("click", () => one(input).click());
    one(input).addEventListener("change", () => {
      for (const file of one(input).files) add(file, file.webkitRelativePath || file.name);
      one(input).value = "";
    });
  }
  const finished = () => [...items.values()].filter(item => ["ok", "salvaged"].includes(item.status));
  one("#download-all").addEventListener("click", () => download(finished()).catch(failure => complain(failure.message)));
  one("#remove-all").addEventListener("click", async () => {
    for (const item of [...items.values()]) await remove(item).catch(failure => complain(failure.message));
  });
  ask("/api/models").then(answer => answer.json()).then(found => {
    models = found;
    one("#model").append(...found.map(model => new Option(`${model.name} (${model.cleans.join(", ")})`, model.name)));
    return resume();
  }).catch(failure => complain(failure.message));
  window.addFiles = list => { for (const [file, name] of list) add(file, name); };
})();
