"use strict";
// The page's data are columns, one entry per image; an image is the number of its entry. Whatever
// comes from the data enters the page as text or as a data URI, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { names, scores, labels, thumbs, maps } = data;
  const n = scores.length;
  const PAGE = 60; // images that are added to the gallery at a time
  const at = (id) => document.getElementById(id);

  const element = (tag, text, attributes = {}) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const drawn = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const whole = (value) => value.toLocaleString("en");
  const short = (value) => (value === null ? "–" : String(Number(value.toPrecision(4))));
  const percent = (part, of) => (of ? `${((100 * part) / of).toFixed(1)} %` : "–");
  const plural = (count, what) => `${whole(count)} ${what}${count === 1 ? "" : "s"}`;

  // ---- counts at any threshold, from sorted scores ----------------------------------------------
  const sorted = (of) => Float64Array.from(of).sort();
  const all = sorted(scores);
  const good = labels && sorted(scores.filter((_, i) => labels[i] === 1));
  const defects = labels && sorted(scores.filter((_, i) => labels[i] === -1));
  const below = (ordered, value) => {
    let low = 0, high = ordered.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ordered[middle] < value) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  let threshold = data.threshold;
  const flagged = (i) => scores[i] < threshold;
  const outcome = (i) => {
    if (!labels) return flagged(i) ? ["flagged", true] : ["passed", false];
    if (labels[i] === 1) return flagged(i) ? ["false alarm", true] : ["passed", false];
    return flagged(i) ? ["defect found", false] : ["defect missed", true];
  };
  const number = (id) => Math.max(0, parseFloat(at(id).value) || 0);
  const both = labels && good.length > 0 && defects.length > 0;
  let share = both ? data.costs.defect_rate ?? defects.length / n : 0; // of defects in production
  const costAt = (value) => {
    const missed = (defects.length - below(defects, value)) / defects.length;
    const alarms = below(good, value) / good.length;
    return 1000 * (share * number("cost-missed") * missed
      + (1 - share) * number("cost-alarm") * alarms);
  };

  // ---- figures ----------------------------------------------------------------------------------
  const figures = () => {
    const count = below(all, threshold);
    const rows = [["flagged", "flagged", whole(count), `${percent(count, n)} of ${plural(n, "image")}`]];
    if (labels) {
      const alarms = below(good, threshold), found = below(defects, threshold);
      rows.push(
        ["alarms", "false alarms", whole(alarms), `${percent(alarms, good.length)} of ${whole(good.length)} good`],
        ["missed", "defects missed", whole(defects.length - found),
          `${percent(defects.length - found, defects.length)} of ${plural(defects.length, "defect")}`],
        ["found", "defects found", whole(found), `${percent(found, count)} of what is flagged`],
      );
    } else {
      rows.push(["passed", "passed", whole(n - count), percent(n - count, n)]);
    }
    if (both) rows.push(["cost", "cost", costAt(threshold).toLocaleString("en", { maximumFractionDigits: 1 }), "per 1,000 parts"]);
    at("figures").replaceChildren(...rows.map(([key, what, value, note]) => {
      const box = element("div", undefined, { "data-figure": key });
      box.append(element("span", what), element("b", value), element("small", note));
      return box;
    }));
    return rows.map(([, what, value]) => `${value} ${what}`).join(", ");
  };

  // ---- histogram --------------------------------------------------------------------------------
  const EDGE = 8; // half of the slider's thumb, so that chart and slider share one axis
  let zoomed = false, domain = [0, 1];
  const setDomain = () => {
    let low = Math.min(all[0], data.threshold, threshold), high = Math.max(all[n - 1], data.threshold, threshold);
    if (zoomed) {
      const reach = 4 * (all[Math.floor(0.75 * (n - 1))] - all[Math.floor(0.25 * (n - 1))]);
      low = Math.max(low, threshold - reach);
      high = Math.min(high, threshold + reach);
    }
    const pad = (high - low || Math.abs(high) || 1) * 0.02;
    domain = [low - pad, high + pad];
  };
  const toX = (value, width) => EDGE + ((value - domain[0]) / (domain[1] - domain[0])) * (width - 2 * EDGE);
  const ticks = (low, high, about) => {
    const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(Number((k * step).toPrecision(12)));
    return found;
  };
  const drawHistogram = () => {
    const svg = at("histogram");
    const width = svg.clientWidth, height = svg.clientHeight, floor = height - 22;
    if (!width) return;
    const nBins = Math.max(12, Math.min(80, Math.floor(width / 11)));
    const edge = (k) => domain[0] + ((domain[1] - domain[0]) * k) / nBins;
    const binned = (ordered) => Array.from({ length: nBins }, (_, k) => below(ordered, edge(k + 1)) - below(ordered, edge(k)));
    const series = labels ? [["bar-good", binned(good)], ["bar-defect", binned(defects)]] : [["bar-good", binned(all)]];
    const top = Math.max(1, ...series[0][1].map((_, k) => series.reduce((sum, [, bins]) => sum + bins[k], 0)));
    const toY = (count) => floor - (count / top) * (floor - 22);
    const parts = [drawn("rect", { class: "flagged", x: 0, y: 0, height: floor, width: 0, id: "flagged-area" })];
    for (const tick of ticks(0, top, 3)) {
      if (tick % 1) continue;
      parts.push(drawn("line", { class: "axis", x1: 0, x2: width, y1: toY(tick), y2: toY(tick) }));
      if (tick) parts.push(drawn("text", { x: 0, y: toY(tick) - 3 }, plural(tick, "image")));
    }
    for (let k = 0; k < nBins; k++) {
      let base = floor;
      for (const [kind, bins] of series) {
        if (!bins[k]) continue;
        const tall = Math.max(2, floor - toY(bins[k])); // one image must be seen beside thousands
        const x = toX(edge(k), width), wide = Math.max(1, toX(edge(k + 1), width) - x - 1);
        parts.push(drawn("rect", { class: kind, x, y: base - tall, width: wide, height: tall }));
        base -= tall;
      }
    }
    for (const tick of ticks(domain[0], domain[1], Math.max(2, width / 110))) {
      const x = toX(tick, width);
      const anchor = x < 30 ? "start" : x > width - 30 ? "end" : "middle";
      parts.push(drawn("text", { x, y: height - 6, "text-anchor": anchor }, String(tick)));
    }
    const model = toX(data.threshold, width);
    parts.push(
      drawn("line", { class: "model", x1: model, x2: model, y1: 12, y2: floor }),
      drawn("line", { class: "at", y1: 0, y2: floor, id: "threshold-line" }),
      drawn("path", { class: "grip", d: "M-7,0 H7 V9 L0,16 L-7,9 Z", id: "threshold-grip" }),
    );
    svg.replaceChildren(...parts);
    placeThreshold();
  };
  const placeThreshold = () => {
    const line = at("threshold-line");
    if (!line) return;
    const width = at("histogram").clientWidth;
    const x = Math.max(0, Math.min(width, toX(threshold, width)));
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    at("threshold-grip").setAttribute("transform", `translate(${x},0)`);
    at("flagged-area").setAttribute("width", x);
  };

  // ---- ROC and precision-recall curves ----------------------------------------------------------
  // One point per distinct score, from "nothing flagged" to "everything flagged".
  const points = [];
  if (both) {
    for (const value of [...new Set(all)]) {
      points.push([below(good, value), below(defects, value), value]);
    }
    points.push([good.length, defects.length, Infinity]);
  }
  const drawCurve = (id, path, spot, names) => {
    const svg = at(id), side = Math.min(svg.clientWidth, 420), height = svg.clientHeight;
    if (!side) return;
    const x = (value) => 44 + value * (side - 54), y = (value) => height - 34 - value * (height - 44);
    const parts = [];
    for (const tick of [0, 0.5, 1]) {
      parts.push(
        drawn("line", { class: "axis", x1: x(0), x2: x(1), y1: y(tick), y2: y(tick) }),
        drawn("line", { class: "axis", x1: x(tick), x2: x(tick), y1: y(0), y2: y(1) }),
        drawn("text", { x: 38, y: y(tick) + 4, "text-anchor": "end" }, String(tick)),
        drawn("text", { x: x(tick), y: height - 18, "text-anchor": "middle" }, String(tick)),
      );
    }
    parts.push(drawn("text", { x: x(0.5), y: height - 2, "text-anchor": "middle" }, names[0]));
    parts.push(drawn("text", { "text-anchor": "middle", transform: `translate(10,${y(0.5)}) rotate(-90)` }, names[1]));
    if (id === "roc") parts.push(drawn("line", { class: "chance", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
    parts.push(drawn("path", { class: "curve", d: "M" + path.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join("L") }));
    if (spot) parts.push(drawn("circle", { class: "point", cx: x(spot[0]), cy: y(spot[1]), r: 6 }));
    svg.replaceChildren(...parts);
  };
  const drawCurves = () => {
    if (!both) return;
    const alarms = below(good, threshold), found = below(defects, threshold);
    const roc = points.map(([a, d]) => [a / good.length, d / defects.length]);
    // Average precision: precision is a step function of recall, as in scikit-learn.
    let area = 0, precisionArea = 0;
    const pr = [];
    for (let k = 1; k < points.length; k++) {
      const [a, d] = points[k], [beforeA, beforeD] = points[k - 1];
      const recall = d / defects.length, gained = (d - beforeD) / defects.length;
      const precision = d / (a + d);
      area += ((a - beforeA) / good.length) * (recall + beforeD / defects.length) / 2;
      precisionArea += gained * precision;
      pr.push([beforeD / defects.length, precision], [recall, precision]);
    }
    at("roc-text").textContent = `ROC curve, area ${area.toFixed(3)}`;
    at("pr-text").textContent = `Precision and recall of defects, average precision ${precisionArea.toFixed(3)}`;
    drawCurve("roc", roc, [alarms / good.length, found / defects.length], ["false alarms among good", "defects found"]);
    const flaggedNow = alarms + found;
    drawCurve("pr", pr, flaggedNow ? [found / defects.length, found / flaggedNow] : null, ["defects found", "defects among flagged"]);
  };

  // ---- gallery ----------------------------------------------------------------------------------
  const cards = at("cards");
  let listed = [], shown = 0, current = 0;
  const picture = (i) => {
    const box = element("span", undefined, { class: "picture" });
    const image = element("img", undefined, { alt: "" });
    image.src = `data:${data.thumbType};base64,${thumbs[i]}`;
    box.append(image);
    if (maps && maps[i]) {
      const map = element("img", undefined, { alt: "", class: "map" });
      map.src = `data:image/png;base64,${maps[i]}`;
      box.append(map);
    }
    return box;
  };
  const verdict = (i) => {
    const [text, bad] = outcome(i);
    return element("span", text, { class: `verdict ${bad ? "bad" : "fine"}` });
  };
  const makeCard = (i, position) => {
    const item = element("li");
    const card = element("button", undefined, { type: "button", class: "card", tabindex: position === current ? 0 : -1, "data-image": i });
    const text = element("span", undefined, { class: "text" });
    const name = element("span", undefined, { class: "name", title: names[i] });
    name.append(element("bdi", names[i])); // cut on the left: the end of a path tells more
    text.append(name, verdict(i), element("span", `score ${short(scores[i])}`, { class: "score" }));
    card.classList.toggle("is-flagged", flagged(i));
    card.append(picture(i), text);
    item.append(card);
    return item;
  };
  const showMore = () => {
    const until = Math.min(listed.length, shown + PAGE);
    const added = document.createDocumentFragment();
    for (; shown < until; shown++) added.append(makeCard(listed[shown], shown));
    cards.append(added);
    at("more").hidden = shown >= listed.length;
    at("shown").textContent = listed.length === 0 ? "No image passes the filters."
      : `${whole(shown)} of ${plural(listed.length, "image")} shown`;
  };
  const DECISIONS = {
    "": ["all", () => true],
    flagged: ["flagged", flagged],
    passed: ["passed", (i) => !flagged(i)],
    alarm: ["false alarms", (i) => labels[i] === 1 && flagged(i)],
    missed: ["defects missed", (i) => labels[i] === -1 && !flagged(i)],
  };
  const ORDERS = {
    worst: (a, b) => scores[a] - scores[b],
    best: (a, b) => scores[b] - scores[a],
    near: (a, b) => Math.abs(scores[a] - threshold) - Math.abs(scores[b] - threshold),
    name: (a, b) => (names[a] < names[b] ? -1 : names[a] > names[b] ? 1 : 0),
  };
  const list = () => {
    const passes = DECISIONS[at("by-decision").value][1];
    const label = at("by-label").value, part = at("by-name").value.trim().toLowerCase();
    listed = [];
    for (let i = 0; i < n; i++) {
      if (passes(i) && (!label || labels[i] === Number(label)) && names[i].toLowerCase().includes(part)) listed.push(i);
    }
    listed.sort(ORDERS[at("order").value]);
    cards.replaceChildren();
    shown = current = 0;
    showMore();
  };
  const focusCard = (position) => {
    if (position < 0 || position >= listed.length) return;
    while (position >= shown) showMore();
    const buttons = cards.querySelectorAll(".card");
    buttons[current].tabIndex = -1;
    current = position;
    buttons[current].tabIndex = 0;
    buttons[current].focus();
    buttons[current].scrollIntoView({ block: "nearest" });
  };
  const positionOf = (card) => [...cards.querySelectorAll(".card")].indexOf(card);
  cards.addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (card) view(positionOf(card));
  });
  cards.addEventListener("keydown", (event) => {
    const columns = getComputedStyle(cards).gridTemplateColumns.split(" ").length;
    const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns,
      Home: -current, End: listed.length - 1 - current }[event.key];
    if (move === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    focusCard(current + move);
  });
  const mark = (on) => {
    at("overlay").checked = at("viewer-overlay").checked = on;
    cards.classList.toggle("marked", on);
    at("viewer-picture").classList.toggle("marked", on);
  };

  // ---- one image --------------------------------------------------------------------------------
  const viewer = at("viewer");
  const view = (position) => {
    if (position < 0 || position >= listed.length) return;
    while (position >= shown) showMore();
    cards.querySelectorAll(".card")[current].tabIndex = -1;
    current = position;
    cards.querySelectorAll(".card")[current].tabIndex = 0;
    const i = listed[position];
    at("viewer-name").textContent = names[i];
    const box = picture(i);
    box.firstChild.alt = names[i];
    at("viewer-picture").replaceChildren(...box.childNodes);
    const facts = [["Decision", outcome(i)[0]], ["Score", `${short(scores[i])} (threshold ${short(threshold)})`]];
    if (data.p_values && data.p_values[i] !== null) facts.push(["p-value", short(data.p_values[i])]);
    if (labels) facts.push(["Label", labels[i] === 1 ? "good" : "defect"]);
    facts.push(["Position", `${whole(position + 1)} of ${whole(listed.length)} listed`]);
    at("viewer-facts").replaceChildren(...facts.flatMap(([what, value]) => [element("dt", what), element("dd", value)]));
    at("previous").disabled = position === 0;
    at("next").disabled = position === listed.length - 1;
    if (!viewer.open) viewer.showModal();
  };
  at("previous").addEventListener("click", () => view(current - 1));
  at("next").addEventListener("click", () => view(current + 1));
  at("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => focusCard(current));
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") view(current + 1);
    if (event.key === "ArrowLeft") view(current - 1);
  });

  // ---- the threshold moves ----------------------------------------------------------------------
  let later = 0;
  const setThreshold = (value, source) => {
    if (!Number.isFinite(value)) return;
    threshold = value;
    const slider = at("slider");
    if (source !== slider) slider.value = value;
    if (source !== at("threshold")) at("threshold").value = value;
    const spoken = figures();
    slider.setAttribute("aria-valuetext", `${short(value)}: ${spoken}`);
    placeThreshold();
    drawCurves();
    clearTimeout(later); // the gallery and the spoken counts wait until the hand rests
    later = setTimeout(() => {
      list();
      at("announcement").textContent = spoken;
    }, 200);
  };
  const setScale = () => {
    setDomain();
    const slider = at("slider");
    slider.min = domain[0];
    slider.max = domain[1];
    slider.value = threshold;
    drawHistogram();
  };
  at("slider").addEventListener("input", (event) => setThreshold(Number(event.target.value), event.target));
  at("slider").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 20, PageDown: -20 }[event.key];
    if (!step) return; // "any" as a step would move by next to nothing
    event.preventDefault();
    const moved = threshold + (step * (domain[1] - domain[0])) / 200;
    setThreshold(Math.max(domain[0], Math.min(domain[1], moved)));
  });
  at("threshold").addEventListener("input", (event) => setThreshold(parseFloat(event.target.value), event.target));
  at("reset").addEventListener("click", () => setThreshold(data.threshold));
  at("zoom").addEventListener("click", () => {
    zoomed = !zoomed;
    at("zoom").setAttribute("aria-pressed", zoomed);
    setScale();
  });
  const histogram = at("histogram");
  const drag = (event) => {
    const box = histogram.getBoundingClientRect();
    const share = (event.clientX - box.left - EDGE) / (box.width - 2 * EDGE);
    setThreshold(domain[0] + Math.max(0, Math.min(1, share)) * (domain[1] - domain[0]));
  };
  histogram.addEventListener("pointerdown", (event) => {
    histogram.setPointerCapture(event.pointerId);
    drag(event);
  });
  histogram.addEventListener("pointermove", (event) => {
    if (histogram.hasPointerCapture(event.pointerId)) drag(event);
  });
  at("costs").addEventListener("input", (event) => {
    if (event.target === at("defect-rate")) share = Math.min(number("defect-rate") / 100, 1);
    setThreshold(threshold);
  });
  at("cheapest").addEventListener("click", () => {
    // Midway between two scores, where a new image is least likely to fall on the threshold.
    let best = null;
    points.forEach(([, , value], k) => {
      const previous = k ? points[k - 1][2] : value;
      const middle = value === Infinity ? previous + 1e-9 * Math.max(1, Math.abs(previous)) : (previous + value) / 2;
      const candidate = below(all, middle) === below(all, value) ? middle : value;
      if (Number.isFinite(candidate) && (best === null || costAt(candidate) < costAt(best))) best = candidate;
    });
    setThreshold(best);
  });

  // ---- what is said once ------------------------------------------------------------------------
  const fill = (id, rows) => {
    at(id).hidden = false;
    at(id).querySelector("tbody").replaceChildren(...rows.map((cells) => {
      const row = element("tr");
      row.append(...cells.map((cell) => element("td", cell)));
      return row;
    }));
  };
  const facts = [plural(n, "image")];
  if (labels) facts.push(`${whole(good.length)} good`, plural(defects.length, "defect"));
  facts.push(data.created);
  at("facts").append(...facts.map((fact) => element("span", fact)));
  const warn = (text, target) => {
    const notice = at("warning");
    if (!notice.hidden) notice.append(" ");
    notice.hidden = false;
    notice.append(element("a", text, { href: `#${target}` }));
  };
  if (data.leaks && data.leaks.length) {
    fill("leaks", data.leaks.map(([image, train, similarity]) => [image, train, similarity === 1 ? "identical" : similarity.toFixed(3)]));
    const count = new Set(data.leaks.map(([image]) => image)).size;
    warn(`${plural(count, "image")} ${count === 1 ? "has a copy" : "have copies"} among the training images.`, "leaks");
  }
  if (data.errors.length) {
    fill("errors", data.errors);
    warn(`${plural(data.errors.length, "file")} could not be read.`, "errors");
  }
  if (data.summary.length) {
    at("summary").hidden = false;
    at("summary").querySelector("dl").replaceChildren(...data.summary.flatMap(([what, value]) => [element("dt", what), element("dd", value)]));
  }
  if (!maps) document.querySelectorAll(".check").forEach((box) => { box.hidden = true; });

  // ---- start ------------------------------------------------------------------------------------
  for (const [value, [text]] of Object.entries(DECISIONS)) {
    if (labels || !["alarm", "missed"].includes(value)) at("by-decision").append(element("option", text, { value }));
  }
  if (labels) {
    at("by-label-box").hidden = false;
    at("legend").append(element("span", "good"), element("span", "defect", { class: "is-defect" }));
  }
  if (both) {
    at("curves").hidden = at("costs").hidden = at("cheapest").hidden = false;
    at("cost-missed").value = data.costs.missed_defect;
    at("cost-alarm").value = data.costs.false_alarm;
    at("defect-rate").value = Number((100 * share).toPrecision(4));
  }
  if (!n) {
    document.querySelectorAll("main > section").forEach((section) => {
      if (!["errors", "leaks", "summary"].includes(section.id)) section.hidden = true;
    });
    return;
  }
  at("histogram-text").textContent = `Histogram of the scores, from ${short(all[0])} to ${short(all[n - 1])}, half of them below ${short(all[n >> 1])}. The lower, the more abnormal. The threshold of the model is ${short(data.threshold)}.`;
  setScale();
  setThreshold(threshold);
  list();
  clearTimeout(later);
  for (const id of ["by-decision", "by-label", "order"]) at(id).addEventListener("change", list);
  at("by-name").addEventListener("input", list);
  for (const id of ["filters", "costs"]) at(id).addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["overlay", "viewer-overlay"]) at(id).addEventListener("change", (event) => mark(event.target.checked));
  at("more").addEventListener("click", showMore);
  const nearEnd = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting) || shown >= listed.length) return;
    showMore();
    nearEnd.unobserve(at("more")); // observed anew, it reports again where it is still in view
    nearEnd.observe(at("more"));
  }, { rootMargin: "600px" });
  nearEnd.observe(at("more"));
  new ResizeObserver(() => { drawHistogram(); drawCurves(); }).observe(histogram);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=checkbox]):not([type=range]), select");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "o" && maps) mark(!at("overlay").checked);
    if (event.key === "/" && !viewer.open) {
      event.preventDefault();
      at("by-name").focus();
    }
  });
})();
