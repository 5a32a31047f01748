// Live pages without a build step: refresh parts on events, draw figures, steer searches, build the form from the catalogue.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

function toast(text) {
  const box = $("#toast");
  box.textContent = text;
  box.classList.add("shown");
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => box.classList.remove("shown"), 5000);
}

async function api(method, path, body) {
  const options = { method, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  const data = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw Object.assign(new Error(data.detail || answer.statusText), { errors: data.errors || [] });
  return data;
}

// -- figures -------------------------------------------------------------------------------------------------------

function themed(layout) {
  const style = getComputedStyle(document.documentElement);
  const [ink, line] = ["--ink", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line };
  const merged = {
    margin: { l: 56, r: 18, t: 14, b: 44 }, paper_bgcolor: "transparent", plot_bgcolor: "transparent",
    font: { color: ink, size: 12, family: "system-ui, sans-serif" }, hovermode: "closest",
    legend: { orientation: "h", y: 1.12, x: 0 }, uirevision: "kept", ...layout,
  };
  for (const name of Object.keys(merged).filter((key) => /^[xy]axis/.test(key))) merged[name] = { ...axis, ...merged[name] };
  return merged;
}

function draw(element, figure) {
  Plotly.react(element, figure.data, themed(figure.layout), { displayModeBar: false, responsive: true });
}

async function drawFigures(id) {
  const found = await (await fetch(`/fragments/searches/${id}/figures`)).json();
  for (const box of $$("[data-figure]", $("#part-figures"))) {
    const figure = found[box.dataset.figure];
    box.hidden = !figure;
    if (!figure) continue;
    draw($(".plot", box), figure);
  }
}

// -- a search, live ------------------------------------------------------------------------------------------------

async function refreshSearch(page) {
  const answer = await fetch(`/fragments/searches/${page.dataset.id}`);
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of $$(".part:not(.static)", page)) {
    const changed = fresh.getElementById(part.id);
    if (!changed || changed.innerHTML === part.innerHTML) continue;
    const scroll = $(".scroll", part)?.scrollTop;
    const open = $$("details", part).map((details) => details.open);
    part.innerHTML = changed.innerHTML;
    $$("details", part).forEach((details, i) => { details.open = open[i] ?? details.open; });
    if (scroll) $(".scroll", part).scrollTop = scroll;
    $$("[data-sortable]", part).forEach(sortable);
  }
  await drawFigures(page.dataset.id);
}

function followSearch(page) {
  let waiting = false;
  let again = false;
  const refresh = async () => {
    if (waiting) { again = true; return; }
    waiting = true;
    try { await refreshSearch(page); } catch (error) { console.warn(error); }
    setTimeout(() => { waiting = false; if (again) { again = false; refresh(); } }, 700);
  };
  const stream = new EventSource(`/v1/searches/${page.dataset.id}/events/stream?after=${page.dataset.event}`);
  const kinds = ["epoch", "trial_proposed", "trial_started", "trial_requeued", "trial_completed", "trial_pruned", "trial_failed",
    "trial_infeasible", "trial_cancelled", "finalist_started", "finalist_epoch", "finalist_completed", "finalist_failed", "stage", "reason",
    "driver_started", "test_evaluated", "search_pausing", "search_paused", "search_resumed", "search_cancelling", "search_cancelled",
    "search_succeeded", "search_failed", "search_renamed", "export_queued", "export_running", "export_ready", "export_failed"];
  for (const kind of kinds) stream.addEventListener(kind, refresh);
  stream.addEventListener("end", () => { stream.close(); refresh(); });
  drawFigures(page.dataset.id);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const page = $("#search");
  try {
    if (button.dataset.act) {
      if (button.dataset.act === "cancel" && !confirm("End this search? What was found stays.")) return;
      button.disabled = true;
      const search = await api("POST", `/v1/searches/${page.dataset.id}/${button.dataset.act}`);
      toast(`The search is ${search.state}.`);
      await refreshSearch(page);
    } else if (button.dataset.export !== undefined) {
      button.disabled = true;
      await exportAndWait(page.dataset.id, null);
      await refreshSearch(page);
    } else if (button.dataset.exportTrial) {
      button.disabled = true;
      const made = await exportAndWait(button.dataset.id, Number(button.dataset.exportTrial));
      location.href = `/v1/exports/${made.id}/files/package.zip`;
    } else if (button.dataset.copy) {
      await navigator.clipboard.writeText($(button.dataset.copy).textContent);
      toast("Copied.");
    }
  } catch (error) {
    toast(error.message);
    button.disabled = false;
  }
});

async function exportAndWait(search, trial) {
  let made = await api("POST", "/v1/exports", { search, trial });
  toast("The package is being made: code, weights, ONNX, certificate.");
  while (made.state === "queued" || made.state === "running") {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    made = await api("GET", `/v1/exports/${made.id}`);
  }
  if (made.state === "failed") throw new Error(`The export failed: ${made.reason}`);
  toast("The package is ready.");
  return made;
}

// -- tables --------------------------------------------------------------------------------------------------------

const sorting = { column: null, down: false };

function sortable(table) {
  const heads = $$("th", table);
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    const sort = () => {
      sorting.down = sorting.column === column ? !sorting.down : true;
      sorting.column = column;
      sortBy(table);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
  if (sorting.column !== null) sortBy(table);
}

function sortBy(table) {
  const { column, down } = sorting;
  const value = (row) => {
    const cell = row.cells[column];
    const text = cell?.dataset.sort ?? cell?.textContent ?? "";
    return text === "" ? null : Number.isNaN(Number(text)) ? text : Number(text);
  };
  const rows = $$("tbody tr", table).map((row) => [value(row), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
  });
  $("tbody", table).append(...rows.map(([, row]) => row));
  $$("th", table).forEach((head, i) => {
    if (i === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

// -- the form for a new search -------------------------------------------------------------------------------------

// A JSON Schema of pydantic as inputs. Each field knows how to read itself; empty means "leave it out", so the server's default holds.
function resolve(schema, root) {
  if (schema.$ref) return { ...resolve(root.$defs[schema.$ref.split("/").pop()], root), ...schema, $ref: undefined };
  const options = (schema.anyOf || []).filter((option) => option.type !== "null");
  if (options.length === 1) return { ...resolve(options[0], root), ...schema, anyOf: undefined, nullable: true };
  return schema;
}

function field(name, given, root, value) {
  const schema = resolve(given, root);
  const label = document.createElement("label");
  label.dataset.name = name;
  const title = name.replaceAll("_", " ");
  let input;
  if (schema.enum) {
    input = document.createElement("select");
    for (const option of schema.enum) input.add(new Option(option, JSON.stringify(option)));
    const chosen = value ?? schema.default;
    if (chosen === undefined || chosen === null) input.add(new Option("default", ""), 0);
    input.value = chosen === undefined || chosen === null ? "" : JSON.stringify(chosen);
  } else if (schema.type === "boolean") {
    input = document.createElement("select");
    for (const option of ["false", "true"]) input.add(new Option(option === "true" ? "yes" : "no", option));
    input.value = String(value ?? schema.default ?? false);
  } else {
    input = document.createElement("input");
    if (schema.type === "integer" || schema.type === "number") {
      input.type = "number";
      input.step = schema.type === "integer" ? "1" : "any";
      if (schema.minimum !== undefined) input.min = schema.minimum;
      if (schema.maximum !== undefined) input.max = schema.maximum;
    }
    const shown = value ?? schema.default;
    input.placeholder = shown === null || shown === undefined ? "left open" : "";
    input.value = Array.isArray(shown) ? shown.join(", ") : shown ?? "";
  }
  input.name = name;
  label.append(title[0].toUpperCase() + title.slice(1), input);
  if (schema.description) {
    const help = document.createElement("small");
    help.textContent = schema.description;
    label.append(help);
  }
  label.read = () => {
    const text = input.value.trim();
    if (text === "") return undefined;
    if (schema.enum || schema.type === "boolean") return JSON.parse(text);
    if (schema.type === "integer" || schema.type === "number") return Number(text);
    if (schema.type === "array") return text.split(",").map((part) => part.trim()).filter(Boolean).map((part) => {
      const number = Number(part);
      return part === "true" ? true : part === "false" ? false : Number.isNaN(number) ? part : number;
    });
    return text;
  };
  return label;
}

class Fields {
  constructor(box, schema, { skip = ["name"], values = {} } = {}) {
    this.box = box;
    this.fields = [];
    box.replaceChildren();
    for (const [name, given] of Object.entries(schema.properties || {})) {
      const plain = resolve(given, schema);
      if (skip.includes(name) || plain.type === "object" || plain.oneOf || plain.discriminator) continue;
      const made = field(name, given, schema, values[name]);
      this.fields.push(made);
      box.append(made);
    }
  }

  read() {
    const found = {};
    for (const each of this.fields) {
      const value = each.read();
      if (value !== undefined) found[each.dataset.name] = value;
    }
    return found;
  }
}

function section(parent, title) {
  const box = document.createElement("div");
  box.className = "fields";
  if (title) {
    const head = document.createElement("h3");
    head.textContent = title;
    parent.append(head);
  }
  parent.append(box);
  return box;
}

function chooser(parent, title, items, value, changed) {
  const label = document.createElement("label");
  const select = document.createElement("select");
  for (const item of items) select.add(new Option(item.title || item.name, item.name));
  if (value && items.some((item) => item.name === value)) select.value = value;
  const help = document.createElement("small");
  label.append(title, select, help);
  parent.append(label);
  const update = () => {
    const item = items.find((each) => each.name === select.value);
    help.textContent = item.summary || "";
    changed(item);
  };
  select.addEventListener("change", update);
  return { select, update };
}

async function newSearch(form) {
  const [schema, spaces, strategies, datasets] = await Promise.all(
    ["/v1/search-schema", "/v1/spaces", "/v1/strategies", "/v1/datasets"].map((path) => api("GET", path)));
  const given = JSON.parse($("#template").textContent);
  const sub = (name) => ({ ...schema.$defs[name], $defs: schema.$defs });
  const parts = {};

  const what = section($("#form-what"));
  const nameField = field("name", { type: "string", description: "left out: made from space and data" }, {}, given.name);
  what.append(nameField);
  const usable = datasets.filter((item) => !item.problem).map((item) => ({
    ...item, summary: `${item.info.train.toLocaleString()} + ${item.info.test.toLocaleString()} images of ${item.info.input_shape.join("×")}, ${item.info.classes} classes`,
  }));
  const dataset = chooser(what, "Data set", usable, given.dataset?.name, () => {});
  parts.dataset = new Fields(section($("#form-what")), sub("DatasetSpec"), { values: given.dataset });
  const constraints = section($("#form-what"), "Limits");
  const limits = ["params", "macs", "latency_ms", "memory_mb"].map((metric) => {
    const known = (given.constraints || []).find((each) => each.metric === metric);
    const made = field(metric, { type: "number", description: { params: "most parameters", macs: "most multiply-accumulates", latency_ms: "longest latency, milliseconds", memory_mb: "most memory in training, MiB" }[metric] }, {}, known?.max);
    constraints.append(made);
    return made;
  });
  const second = field("also", { enum: ["accuracy alone", "params", "macs", "latency_ms", "memory_mb"], default: "accuracy alone", description: "a second objective gives a Pareto front" }, {}, (given.objectives || [])[1]?.metric);
  constraints.append(second);

  const spaceFields = { box: null };
  const space = chooser($("#form-space"), "Space", spaces, given.space?.name || "mbconv", (item) => {
    spaceFields.box ||= section($("#form-space"));
    parts.space = new Fields(spaceFields.box, item.options, { values: item.name === given.space?.name ? given.space : {} });
  });
  const strategyFields = { box: null };
  const strategy = chooser($("#form-strategy"), "Strategy", strategies, given.strategy?.name || "rl", (item) => {
    strategyFields.box ||= section($("#form-strategy"));
    parts.strategy = new Fields(strategyFields.box, item.options, { values: item.name === given.strategy?.name ? given.strategy : {} });
  });
  space.update();
  strategy.update();
  dataset.update();
  const seed = field("seed", { type: "integer", default: 0, minimum: 0, description: "of proposals and trainings" }, {}, given.seed);

  parts.budget = new Fields(section($("#form-budget")), sub("BudgetSpec"), { values: given.budget });
  parts.scheduler = new Fields(section($("#form-budget"), "Early stopping"), sub("SchedulerSpec"), { skip: [], values: given.scheduler });
  parts.resources = new Fields(section($("#form-budget"), "Resources for one candidate"), sub("ResourceSpec"), { values: given.resources });
  parts.finalists = new Fields(section($("#form-budget"), "Finalists"), sub("FinalistSpec"), { values: given.finalists });
  section($("#form-budget")).append(seed);
  parts.recipe = new Fields(section($("#form-recipe")), sub("Recipe"), { values: given.recipe });
  const optimizers = [{ name: "sgd", ref: "Sgd" }, { name: "adamw", ref: "AdamW" }].filter((each) => schema.$defs[each.ref]);
  let optimizer = null;
  if (optimizers.length) {
    const box = section($("#form-recipe"), "Optimizer");
    optimizer = chooser($("#form-recipe"), "Optimizer", optimizers, given.recipe?.optimizer?.name, (item) => {
      parts.optimizer = new Fields(box, sub(item.ref), { values: item.name === given.recipe?.optimizer?.name ? given.recipe.optimizer : {} });
    });
    box.before(optimizer.select.parentElement);
    optimizer.update();
  }

  const request = () => {
    const recipe = parts.recipe.read();
    if (optimizer) recipe.optimizer = { name: optimizer.select.value, ...parts.optimizer.read() };
    if (given.recipe?.schedule) recipe.schedule = given.recipe.schedule;
    const objectives = [{ metric: "val_accuracy" }];
    if (second.read() !== "accuracy alone") objectives.push({ metric: second.read() });
    const body = {
      name: nameField.read() ?? "",
      dataset: { name: dataset.select.value, ...parts.dataset.read() },
      space: { name: space.select.value, ...parts.space.read() },
      objectives,
      constraints: limits.filter((each) => each.read() !== undefined).map((each) => ({ metric: each.dataset.name, max: each.read() })),
      strategy: { name: strategy.select.value, ...parts.strategy.read() },
      scheduler: parts.scheduler.read(), recipe, budget: parts.budget.read(), resources: parts.resources.read(), finalists: parts.finalists.read(),
    };
    if (seed.read() !== undefined) body.seed = seed.read();
    return body;
  };
  const show = () => { $("#json").textContent = JSON.stringify(request(), null, 2); };
  const refuse = (error) => {
    const box = $("#problem");
    box.hidden = false;
    box.textContent = error.message;
    for (const item of error.errors || []) {
      const name = (item.pointer || "").split("/").filter((part) => part && Number.isNaN(Number(part))).pop();
      $$("label", form).filter((label) => label.dataset.name === name).forEach((label) => label.classList.add("bad"));
    }
  };
  const clear = () => { $("#problem").hidden = true; $$(".bad", form).forEach((label) => label.classList.remove("bad")); };
  form.addEventListener("input", show);
  form.addEventListener("change", show);
  show();

  $("#preview").addEventListener("click", async () => {
    clear();
    try {
      const { outlook } = await api("POST", "/v1/searches?dry_run=true", request());
      const size = outlook.size.exact ? outlook.size.estimate.toLocaleString() : `about ${Number(outlook.size.estimate.toPrecision(2)).toLocaleString()}`;
      const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
      const rows = Object.entries(outlook.costs).map(([name, r]) => `<tr><td>${name}</td>${["least", "median", "most"].map((key) => `<td class="number">${short.format(r[key])}</td>`).join("")}</tr>`);
      $("#outlook").innerHTML = `<p>${size} different samples; ${Math.round(outlook.feasible_share * 100)} % keep the limits.</p><table class="plain"><tr><th>cost</th><th class="number">least</th><th class="number">median</th><th class="number">most</th></tr>${rows.join("")}</table>`;
    } catch (error) { refuse(error); }
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clear();
    $("#start").disabled = true;
    try {
      const search = await api("POST", "/v1/searches", request());
      location.href = `/searches/${search.id}`;
    } catch (error) { refuse(error); $("#start").disabled = false; }
  });
  form.dataset.ready = "true";
}

// -- start ---------------------------------------------------------------------------------------------------------

document.addEventListener("DOMContentLoaded", () => {
  const page = $("#search");
  if (page) followSearch(page);
  const form = $("#new");
  if (form) newSearch(form).catch((error) => toast(error.message));
  const curve = $("#curve");
  if (curve) draw(curve, JSON.parse(curve.dataset.figure));
  $$("[data-sortable]").forEach(sortable);
  for (const box of $$("[data-refresh]")) {
    setInterval(async () => {
      if (document.hidden) return;
      const answer = await fetch(box.dataset.refresh).catch(() => null);
      if (answer?.ok) {
        const text = await answer.text();
        if (box.innerHTML !== text) box.innerHTML = text;
      }
    }, 2000);
  }
});
