// Calculators: a law that moves with a slider. The same file draws them when the book is built (node
// calls `render`) and moves them in the page. Its arithmetic is tested against the chapters' Python.
(() => {
  "use strict";
  // Words in the language of the page, by the English ones; the build hands them over.
  const words = typeof document === "undefined" ? globalThis.coursebookWords || {}
    : JSON.parse(document.querySelector(".calculator-words")?.textContent || "{}");
  const say = (text, given = {}) => (words[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => given[name]);

  const powers = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => 2 ** (from + i));
  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
  const digits = (x) => (x === 0 ? "0" : Math.abs(x) >= 1000 || Math.abs(x) < 0.001
    ? Number(x.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 })
    : String(Number(x.toPrecision(3))));
  const PREFIXES = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];
  const si = (x, unit) => {
    const [scale, prefix] = PREFIXES.find(([size]) => Math.abs(x) >= size * 0.9995) || [1, ""];
    return `${digits(x / scale)} ${prefix}${unit}`;
  };
  const percent = (x) => `${digits(100 * x)} %`;
  const count = (x) => x.toLocaleString("en", { maximumFractionDigits: 0 });
  const times = (x) => `${digits(x)} ×`;

  // Drawing: an SVG of 460 by `height` units in the colours of the book's figures.
  const line = (points, colour, more = "") => `<polyline points="${points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ")}" fill="none" stroke="${colour}" stroke-width="2" ${more}/>`;
  const text = (x, y, words, anchor = "start") => `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" font-size="13" text-anchor="${anchor}">${words}</text>`;
  const rect = (x, y, w, h, colour) => `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${Math.max(0, w).toFixed(1)}" height="${h.toFixed(1)}" fill="${colour}"/>`;
  const dot = ([x, y]) => `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="6" fill="var(--fig-2)" stroke="var(--paper)" stroke-width="1.5"/>`;
  const rule = (x1, y1, x2, y2, more = "") => `<path d="M${x1.toFixed(1)} ${y1.toFixed(1)}L${x2.toFixed(1)} ${y2.toFixed(1)}" stroke="var(--fig-6)" ${more}/>`;
  const frame = (across, up, base) => rule(46, 8, 46, base) + rule(46, base, 452, base)
    + text(452, base + 34, across, "end") + text(46, 4, up);
  const DASHED = 'stroke-dasharray="5 4"';

  // Stalls that look random and are the same everywhere: a hash of worker and iteration.
  const chance = (worker, iteration) => {
    let h = (Math.imul(worker + 1, 0x9e3779b1) + Math.imul(iteration + 1, 0x85ebca77)) >>> 0;
    h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d) >>> 0;
    h = Math.imul(h ^ (h >>> 12), 0x297a2d39) >>> 0;
    return ((h ^ (h >>> 15)) >>> 0) / 2 ** 32;
  };
  const ITERATIONS = 60;
  const BOUNDS = [0, 1, 2, 4, 8, 16, 32, Infinity];
  const race = (pauses, bound) => {
    const workers = pauses.length;
    const reached = [new Array(workers).fill(0)];
    let waited = 0;
    for (let t = 0; t < ITERATIONS; t += 1) {
      const opens = Math.max(...reached[Math.max(0, t - Math.min(bound, t))]);
      reached.push(reached[t].map((end, j) => {
        const start = Math.max(end, opens);
        waited += start - end;
        return start + pauses[j][t];
      }));
    }
    const end = Math.max(...reached[ITERATIONS]);
    return { time: end, waited: waited / (workers * end) };
  };

  const calculators = {
    roofline: {
      title: say("A matrix product under the roof"),
      about: say("X (m × d) times a square matrix W (d × d), both read once, the result written once"),
      knobs: [
        { name: "m", label: say("rows of X, m"), values: powers(0, 13), start: 1, show: count },
        { name: "d", label: say("width of W, d"), values: powers(6, 14), start: 4096, show: count },
        { name: "w", label: say("bytes per number"), values: [1, 2, 4, 8], start: 2, show: count },
        { name: "peak", label: say("peak, π"), values: [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 312, 500, 1000].map((x) => x * 1e12), start: 312e12, show: (x) => si(x, "FLOP/s") },
        { name: "bandwidth", label: say("memory bandwidth, β"), values: [10, 20, 50, 100, 200, 500, 1000, 1555, 2040, 3350, 8000].map((x) => x * 1e9), start: 1555e9, show: (x) => `${count(x / 1e9)} GB/s` },
      ],
      compute: ({ m, d, w, peak, bandwidth }) => {
        const operations = 2 * m * d * d;
        const bytes = (m * d + d * d + m * d) * w;
        const intensity = operations / bytes;
        const speed = Math.min(peak, intensity * bandwidth);
        return { operations, bytes, intensity, ridge: peak / bandwidth, speed, seconds: operations / speed };
      },
      rows: (v, r) => [
        [say("Operations"), si(r.operations, "FLOP")],
        [say("Bytes, at least"), si(r.bytes, "B")],
        [say("Intensity"), say("{number} FLOP per byte", { number: digits(r.intensity) })],
        [say("Ridge, π/β"), say("{number} FLOP per byte", { number: digits(r.ridge) })],
        [say("Speed, at most"), say("{speed} ({share} of the peak)", { speed: si(r.speed, "FLOP/s"), share: percent(r.speed / v.peak) })],
        [say("Time, at least"), si(r.seconds, "s")],
      ],
      say: (v, r) => (r.intensity < r.ridge
        ? say("Memory is the limit: at most {share} of the peak. From about {rows} rows on it could be arithmetic, if W is wide.", { share: percent(r.speed / v.peak), rows: count(Math.ceil(r.ridge * v.w / 2)) })
        : say("Arithmetic is the limit: the bytes arrive faster than they are used.")),
      height: 210,
      draw: (v, r) => {
        const x = (i) => 46 + 406 * (Math.log10(clamp(i, 0.01, 1e5)) + 2) / 7;
        const y = (p) => 170 - 145 * (Math.log10(clamp(p / v.peak, 1e-4, 1)) + 4) / 4;
        const foot = Math.max(0.01, 1e-4 * r.ridge);
        const roof = [[x(foot), y(foot * v.bandwidth)], [x(r.ridge), y(v.peak)], [452, y(v.peak)]];
        return frame(say("intensity (FLOP per byte)"), say("speed (peak = 1)"), 170)
          + [-2, 0, 2, 4].map((e) => text(x(10 ** e), 187, String(10 ** e), "middle")).join("")
          + [0, -2, -4].map((e) => text(41, y(v.peak * 10 ** e) + 4, String(10 ** e), "end")).join("")
          + rule(x(r.ridge), 25, x(r.ridge), 170, DASHED) + line(roof, "var(--fig-1)")
          + dot([x(r.intensity), y(r.speed)]);
      },
    },

    zero: {
      title: say("State of training on each device"),
      about: say("mixed precision and Adam: 2 + 2 + 12 bytes for each parameter, sharded in stages"),
      knobs: [
        { name: "psi", label: say("parameters, Ψ"), values: [0.1, 0.35, 0.7, 1.5, 3, 7.5, 13, 30, 70, 175, 405, 1000].map((x) => x * 1e9), start: 7.5e9, show: (x) => say("{number} billion", { number: digits(x / 1e9) }) },
        { name: "n", label: say("devices, N"), values: powers(0, 10), start: 64, show: count },
        { name: "memory", label: say("memory of a device"), values: [8, 16, 24, 40, 80, 141, 192].map((x) => x * 1e9), start: 80e9, show: (x) => si(x, "B") },
      ],
      compute: ({ psi, n }) => ({
        state: [[1, 1, 1], [1, 1, n], [1, n, n], [n, n, n]].map(([a, b, c]) => (2 / a + 2 / b + 12 / c) * psi),
        parts: [[1, 1, 1], [1, 1, n], [1, n, n], [n, n, n]].map(([a, b, c]) => [2 * psi / a, 2 * psi / b, 12 * psi / c]),
        sent: [2, 2, 2, 3].map((volume) => 2 * volume * psi * (n - 1) / n),
      }),
      rows: (v, r) => r.state.map((bytes, stage) => [
        say("Stage {stage}", { stage }),
        (bytes <= v.memory ? say("{size}, fits; sends {sent} a step", { size: si(bytes, "B"), sent: si(r.sent[stage], "B") })
          : say("{size}, too much; sends {sent} a step", { size: si(bytes, "B"), sent: si(r.sent[stage], "B") })),
      ]),
      say: (v, r) => {
        const first = r.state.findIndex((bytes) => bytes <= v.memory);
        return first < 0
          ? say("No stage fits {memory} on {n} devices; stage 3 needs {more} of them.", { memory: si(v.memory, "B"), n: count(v.n), more: count(Math.ceil(16 * v.psi / v.memory)) })
          : say("Stage {stage} is the first that fits {memory}, before activations: {size}.", { stage: first, memory: si(v.memory, "B"), size: si(r.state[first], "B") });
      },
      height: 196,
      draw: (v, r) => {
        const most = Math.max(r.state[0], v.memory) * 1.02;
        const x = (bytes) => 66 + 386 * bytes / most;
        const bars = r.parts.map((parts, stage) => {
          let from = 0;
          const pieces = parts.map((bytes, i) => {
            const piece = rect(x(from), 14 + 34 * stage, x(from + bytes) - x(from), 22, `var(--fig-${i + 1})`);
            from += bytes;
            return piece;
          });
          return text(0, 30 + 34 * stage, say("stage {stage}", { stage })) + pieces.join("");
        });
        const end = v.memory > most * 0.8;
        return bars.join("") + rule(x(v.memory), 4, x(v.memory), 148, `${DASHED} stroke-width="1.6"`)
          + text(x(v.memory) + (end ? -5 : 5), 160, say("memory, {size}", { size: si(v.memory, "B") }), end ? "end" : "start")
          + [say("parameters"), say("gradients"), say("optimiser")].map((name, i) => rect(66 + 118 * i, 175, 12, 12, `var(--fig-${i + 1})`) + text(83 + 118 * i, 186, name)).join("");
      },
    },

    kv: {
      title: say("Room for sequences is throughput"),
      about: say("weights in 2 bytes, heads of 128 elements, 2.04 TB/s and 312 TFLOP/s"),
      knobs: [
        { name: "params", label: say("parameters, P"), values: [1, 3, 6.74, 13, 34, 70].map((x) => x * 1e9), start: 6.74e9, show: (x) => say("{number} billion", { number: digits(x / 1e9) }) },
        { name: "layers", label: say("layers, L"), values: [16, 22, 32, 40, 48, 60, 80], start: 32, show: count },
        { name: "heads", label: say("heads of keys and values"), values: powers(0, 6), start: 32, show: count },
        { name: "tokens", label: say("tokens in a sequence, s"), values: powers(7, 17), start: 1024, show: count },
        { name: "batch", label: say("sequences, b"), values: powers(0, 9), start: 32, show: count },
        { name: "width", label: say("bytes per cached number"), values: [0.5, 1, 2, 4], start: 2, show: String },
        { name: "memory", label: say("memory"), values: [24, 40, 80, 141, 192, 320, 640].map((x) => x * 1e9), start: 80e9, show: (x) => si(x, "B") },
      ],
      compute: ({ params, layers, heads, tokens, batch, width, memory }) => {
        const weights = 2 * params;
        const token = 2 * layers * heads * 128 * width;
        const step = (b) => Math.max((weights + b * tokens * token) / 2.04e12, 2 * params * b / 312e12);
        return {
          weights, token, cache: token * tokens * batch,
          fits: Math.max(0, Math.floor((memory - weights) / (token * tokens))),
          step: step(batch), rate: batch / step(batch), curve: powers(0, 9).map((b) => [b, b / step(b)]),
        };
      },
      rows: (v, r) => [
        [say("Cache for one token"), si(r.token, "B")],
        [say("Cache, all sequences"), si(r.cache, "B")],
        [say("Weights"), si(r.weights, "B")],
        [say("Sequences that fit"), count(r.fits)],
        [say("A step, at least"), si(r.step, "s")],
        [say("Tokens a second, at most"), count(r.rate)],
      ],
      say: (v, r) => (v.batch > r.fits
        ? say("{batch} sequences do not fit: weights and cache need {size}, and there is room for {fits}.", { batch: count(v.batch), size: si(r.weights + r.cache, "B"), fits: count(r.fits) })
        : say("It fits; {share} of what a step reads is cache.", { share: percent(r.cache / (r.cache + r.weights)) })),
      height: 210,
      draw: (v, r) => {
        const most = Math.max(...r.curve.map(([, rate]) => rate));
        const x = (b) => 46 + 390 * Math.log2(b) / 9;
        const y = (rate) => 170 - 140 * rate / most;
        const full = r.fits >= 1 ? x(Math.min(r.fits, 512)) : 46;
        return frame(say("sequences"), say("tokens a second, at most"), 170)
          + [1, 8, 64, 512].map((b) => text(x(b), 187, String(b), "middle")).join("")
          + text(41, y(most) + 4, digits(most / 1000) + "k", "end")
          + (r.fits < 512 ? rect(full, 22, 452 - full, 148, "var(--fig-grid)") + text(448, 162, say("does not fit"), "end") : "")
          + line(r.curve.map(([b, rate]) => [x(b), y(rate)]), "var(--fig-1)") + dot([x(v.batch), y(r.rate)]);
      },
    },

    bubble: {
      title: say("The bubble of a pipeline"),
      about: say("equal stages, a backward pass that takes twice the time of a forward pass"),
      knobs: [
        { name: "p", label: say("stages, p"), values: [1, 2, 3, 4, 6, 8, 12, 16], start: 4, show: count },
        { name: "m", label: say("micro-batches, m"), values: [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128], start: 4, show: count },
      ],
      compute: ({ p, m }) => ({
        bubble: (p - 1) / (m + p - 1),
        speedup: p * m / (m + p - 1),
        interleaved: [2, 4].map((v) => (p - 1) / (v * m + p - 1)),
        kept: [m, Math.min(m, p)],
        enough: Math.ceil(9 * (p - 1)),
      }),
      rows: (v, r) => [
        [say("Idle, (p − 1) / (m + p − 1)"), percent(r.bubble)],
        [say("Faster than one device"), times(r.speedup)],
        [say("Idle, interleaved, 2 pieces each"), percent(r.interleaved[0])],
        [say("Idle, interleaved, 4 pieces each"), percent(r.interleaved[1])],
        [say("Kept by the first stage, all forward first"), say("{number} micro-batches", { number: count(r.kept[0]) })],
        [say("Kept by the first stage, one forward, one back"), say("{number} micro-batches", { number: count(r.kept[1]) })],
      ],
      say: (v, r) => (v.p === 1 ? say("One stage is no pipeline and has no bubble.")
        : say("{share} of the time the devices wait; for at most 10 % it takes {number} micro-batches.", { share: percent(r.bubble), number: count(r.enough) })),
      height: 196,
      draw: ({ p, m }) => {
        const x = (t) => 46 + 406 * t / (3 * (m + p - 1));
        const high = Math.min(34, 148 / p);
        const few = p * m <= 96;
        const row = (stage) => {
          const y = 8 + high * stage;
          const block = (start, unit, colour) => Array.from({ length: few ? m : 1 }, (_, i) => rect(
            x(start + unit * i), y, x(unit * (few ? 1 : m)) - x(0) - (few ? 1 : 0), high - 3, colour));
          return block(stage, 1, "var(--fig-1)").concat(block(m + p - 1 + 2 * (p - 1 - stage), 2, "var(--fig-3)")).join("");
        };
        return rect(46, 8, 406, high * p - 3, "var(--fig-grid)") + Array.from({ length: p }, (_, s) => row(s)).join("")
          + text(0, 22, say("stage")) + text(452, high * p + 24, say("time"), "end")
          + [[say("forward"), 1], [say("backward"), 3], [say("idle"), "grid"]].map(([name, c], i) => rect(46 + 92 * i, high * p + 13, 12, 12, `var(--fig-${c})`) + text(63 + 92 * i, high * p + 24, name)).join("");
      },
    },

    staleness: {
      title: say("Who may run ahead, and what it buys"),
      about: say("{number} iterations of length 1; a stall makes one of them longer", { number: ITERATIONS }),
      knobs: [
        { name: "workers", label: say("workers, P"), values: powers(1, 5), start: 4, show: count },
        { name: "q", label: say("chance of a stall, q"), values: [0, 0.01, 0.02, 0.05, 0.1, 0.2], start: 0.1, show: percent },
        { name: "stall", label: say("length of a stalled iteration"), values: [2, 5, 10, 13, 20, 50], start: 13, show: count },
        { name: "bound", label: say("staleness bound, s"), values: BOUNDS, start: 0, show: (s) => (s === Infinity ? say("∞, nobody waits") : s === 0 ? say("0, in step") : count(s)) },
      ],
      compute: ({ workers, q, stall, bound }) => {
        const pauses = Array.from({ length: workers }, (_, i) => Array.from({ length: ITERATIONS }, (_, t) => (chance(i, t) < q ? stall : 1)));
        const { time, waited } = race(pauses, bound);
        return {
          time, waited, curve: BOUNDS.map((s) => race(pauses, s).time), stalled: 1 - (1 - q) ** workers,
          delay: workers - 1, rate: 2 * Math.sin(Math.PI / (2 * (2 * (workers - 1) + 1))),
        };
      },
      rows: (v, r) => [
        [say("Time of the run"), say("{number} iterations' worth", { number: digits(r.time) })],
        [say("Faster than in step"), times(r.curve[0] / r.time)],
        [say("Spent waiting"), percent(r.waited)],
        [say("Iterations with a stall somewhere"), percent(r.stalled)],
        [say("A read may miss"), v.bound === Infinity ? say("any number of iterations") : say("{number} iterations of each other worker", { number: count(v.bound) })],
        [say("Largest ηλ at a delay of P − 1"), say("{number} (without delay: 2)", { number: digits(r.rate) })],
      ],
      say: (v, r) => (r.curve[0] / r.curve.at(-1) < 1.02
        ? say("There is next to nothing to gain: nobody stalls much.")
        : say("This bound takes {share} of the time in step; never waiting would take {least}.", { share: percent(r.time / r.curve[0]), least: percent(r.curve.at(-1) / r.curve[0]) })),
      height: 210,
      draw: (v, r) => {
        const x = (i) => 60 + 380 * i / (BOUNDS.length - 1);
        const y = (time) => 170 - 140 * time / r.curve[0];
        return frame(say("staleness bound, s"), say("time of the run (in step = 1)"), 170)
          + BOUNDS.map((s, i) => text(x(i), 187, s === Infinity ? "∞" : String(s), "middle")).join("")
          + [0, 0.5, 1].map((f) => text(41, y(f * r.curve[0]) + 4, String(f), "end")).join("")
          + line(r.curve.map((time, i) => [x(i), y(time)]), "var(--fig-1)") + dot([x(BOUNDS.indexOf(v.bound)), y(r.time)]);
      },
    },
  };

  const defaults = (name) => Object.fromEntries(calculators[name].knobs.map((knob) => [knob.name, knob.start]));

  // What changes with the sliders: a drawing, a table, a sentence.
  const result = (name, values) => {
    const { compute, rows, say: tell, draw, height } = calculators[name];
    const found = compute(values);
    const sentence = tell(values, found);
    return {
      sentence,
      html: `<svg class="fig" role="img" aria-label="${sentence}" viewBox="0 -8 460 ${height + 8}" fill="currentColor" style="width:560px;aspect-ratio:460/${height + 8}">${draw(values, found)}</svg>`
        + `<table><tbody>${rows(values, found).map(([label, value]) => `<tr><th scope="row">${label}</th><td>${value}</td></tr>`).join("")}</tbody></table>`,
    };
  };

  const render = (name) => {
    const { title, about, knobs } = calculators[name];
    const { html, sentence } = result(name, defaults(name));
    const sliders = knobs.map((knob) => {
      const id = `${name}-${knob.name}`;
      const at = knob.values.indexOf(knob.start);
      return `<div class="knob"><label for="${id}">${knob.label}</label> <span class="value">${knob.show(knob.start)}</span>`
        + `<input type="range" id="${id}" name="${knob.name}" min="0" max="${knob.values.length - 1}" value="${at}" autocomplete="off" aria-valuetext="${knob.show(knob.start)}"></div>`;
    });
    return `<div class="admonition box box-calculator" role="group" aria-labelledby="calculator-${name}" data-calculator="${name}">`
      + `<p class="admonition-title" id="calculator-${name}"><span class="box-label">${say("Try it")}</span> <span class="box-title">${title}</span></p>`
      + `<p class="calculator-about">${say("Given: {about}.", { about })}</p><div class="knobs">${sliders.join("")}</div>`
      + `<div class="calculator-result">${html}</div><p class="calculator-say" role="status">${sentence}</p></div>`;
  };

  if (typeof document === "undefined") {
    module.exports = { calculators, defaults, render };
    return;
  }
  window.coursebookCalculators = calculators;
  for (const box of document.querySelectorAll("[data-calculator]")) {
    const name = box.dataset.calculator;
    const { knobs } = calculators[name];
    let later;
    box.addEventListener("input", () => {
      const values = {};
      for (const knob of knobs) {
        const slider = box.querySelector(`[name="${knob.name}"]`);
        values[knob.name] = knob.values[slider.valueAsNumber];
        const shown = knob.show(values[knob.name]);
        slider.setAttribute("aria-valuetext", shown);
        slider.parentElement.querySelector(".value").textContent = shown;
      }
      const { html, sentence } = result(name, values);
      box.querySelector(".calculator-result").innerHTML = html;
      clearTimeout(later); // a screen reader hears the sentence once the slider rests
      later = setTimeout(() => { box.querySelector(".calculator-say").textContent = sentence; }, 300);
    });
  }
})();
