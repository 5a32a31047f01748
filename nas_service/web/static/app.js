// Live pages without a build step: refresh parts on events, draw figures, steer searches, sort tables.
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
    legend: { orientation: "h", y: 1.03, yanchor: "bottom", x: 0, xanchor: "left" }, uirevision: "kept", ...layout,
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

// -- start ---------------------------------------------------------------------------------------------------------

document.addEventListener("DOMContentLoaded", () => {
  const page = $("#search");
  if (page) followSearch(page);
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
