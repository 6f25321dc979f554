// Cells that run in the page: an editor, and Python (Pyodide with NumPy) in a worker of its own.
// Loaded when a reader first asks. Python's files are scripts that carry their bytes as text, so
// the same code works from a server and from a folder, where pages may fetch nothing.
(() => {
  "use strict";
  if (window.coursebookLive) return;
  const here = document.currentScript.src;
  const make = (name, properties) => Object.assign(document.createElement(name), properties);

  // Words in the language of the page, by the English ones; the build puts them beside the buttons.
  const words = JSON.parse(document.querySelector(".live").dataset.words || "{}");
  const say = (text, given = {}) => (words[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => given[name]);

  // Python's files, each fetched once and kept for the next worker.
  const NAMES = ["pyodide.js", "pyodide.asm.js", "pyodide.asm.wasm", "pyodide-lock.json", "python_stdlib.zip", "numpy.zip"];
  const arrived = {};
  window.coursebookLive = (name, text) => { arrived[name] = text; };
  const unpack = (text) => {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  };
  const get = (name) => new Promise((resolve, reject) => {
    const script = make("script", { src: new URL(`live/${name}.js`, here).href });
    script.onload = () => { resolve(unpack(arrived[name])); delete arrived[name]; script.remove(); };
    script.onerror = () => { script.remove(); reject(new Error(say("{name} could not be loaded", { name }))); };
    document.head.append(script);
  });
  let files;
  const load = () => {
    files ||= Promise.all(NAMES.map(async (name) => [name, await get(name)])).then(Object.fromEntries);
    files.catch(() => { files = undefined; });
    return files;
  };

  // The worker; this function's text becomes its script, so nothing of the page is known in it.
  const worker = () => {
    const LIMIT = 200000;
    let rest;
    const PRELUDE = `
import linecache, math, sys, traceback
import numpy as np
sys.stdout.reconfigure(line_buffering=True)
sys.stderr.reconfigure(line_buffering=True)
from pyodide.code import eval_code
scope = {"__name__": "__main__", "math": math, "np": np}
def run(source, name):
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    try:
        value = eval_code(source, globals=scope, filename=name)
        if value is not None:
            print(repr(value))
        return ""
    except BaseException as error:
        tried = traceback.TracebackException.from_exception(error)
        tried.stack = traceback.StackSummary.from_list(
            [frame for frame in tried.stack if frame.filename.startswith("cell ")])
        return "".join(tried.format())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
`;
    let run;
    let room;
    const write = (text) => {
      if (room < 0) return;
      room -= text.length;
      postMessage({ text: room < 0 ? `${rest}\n` : text });
    };
    const start = async (given) => {
      const types = { wasm: "application/wasm", json: "application/json" };
      self.fetch = async (address) => {
        const name = String(address.url || address).split("/").pop();
        const type = types[name.split(".").pop()] || "application/octet-stream";
        return given[name] ? new Response(given[name], { headers: { "Content-Type": type } }) : new Response(null, { status: 404 });
      };
      for (const name of ["pyodide.asm.js", "pyodide.js"]) {
        const address = URL.createObjectURL(new Blob([given[name]], { type: "text/javascript" }));
        importScripts(address);
        URL.revokeObjectURL(address);
      }
      const decoder = new TextDecoder();
      const out = { write: (bytes) => { write(decoder.decode(bytes, { stream: true })); return bytes.length; } };
      const python = await self.loadPyodide({ indexURL: "https://python.invalid/" });
      python.setStdout(out);
      python.setStderr(out);
      python.unpackArchive(given["numpy.zip"], "zip", { extractDir: python.runPython("import site; site.getsitepackages()[0]") });
      python.runPython(PRELUDE);
      run = python.globals.get("run");
    };
    onmessage = async ({ data }) => {
      try {
        rest = data.rest ?? rest;
        if (data.files) await start(data.files);
        room = LIMIT;
        const began = performance.now();
        const error = data.source === undefined ? "" : run(data.source, data.name);
        postMessage({ done: true, error, took: performance.now() - began });
      } catch (problem) {
        postMessage({ done: true, error: String(problem), broken: true });
      }
    };
  };

  // One Python for the page, one question at a time.
  let python;
  let finished = new Set(); // cells whose names this Python knows
  let end; // ends the wait for an answer
  let halted = false;
  const stop = () => {
    halted = true;
    python?.terminate();
    python = undefined;
    finished = new Set();
    end?.({ done: true, stopped: true });
  };
  class Stopped extends Error {}
  const ask = (question, write = () => {}) => new Promise((resolve) => {
    end = (answer) => { end = undefined; resolve(answer); };
    python.onmessage = ({ data }) => (data.done ? end?.(data) : write(data.text));
    python.onerror = (event) => { event.preventDefault(); end?.({ done: true, error: event.message, broken: true }); };
    python.postMessage(question);
  });

  // Colours of the code while it is edited, in the classes of the page's own code.
  const WORDS = "False|None|True|and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|global|if|import|in|is|lambda|nonlocal|not|or|pass|raise|return|try|while|with|yield";
  const TOKEN = new RegExp([
    "(?<c1>#.*)",
    "(?<s1>\\b[rbfuRBFU]{0,2}(?:\"\"\"[^]*?(?:\"\"\"|$)|'''[^]*?(?:'''|$)|\"(?:\\\\.|[^\"\\\\\\n])*\"?|'(?:\\\\.|[^'\\\\\\n])*'?)|(?:\"\"\"[^]*?(?:\"\"\"|$)|'''[^]*?(?:'''|$)|\"(?:\\\\.|[^\"\\\\\\n])*\"?|'(?:\\\\.|[^'\\\\\\n])*'?))",
    `(?<k>\\b(?:${WORDS})\\b)`,
    "(?<mi>\\b\\d[\\w.]*)",
  ].join("|"), "g");
  const paint = (source) => {
    const pieces = [];
    let from = 0;
    for (const found of source.matchAll(TOKEN)) {
      const [kind] = Object.entries(found.groups).find(([, text]) => text !== undefined);
      pieces.push(source.slice(from, found.index), make("span", { className: kind, textContent: found[0] }));
      from = found.index + found[0].length;
    }
    return [...pieces, source.slice(from), "\n"];
  };

  const set = (bar) => {
    const cell = bar.closest(".cell");
    const pre = cell.querySelector(".cell_input pre, details pre");
    const original = pre.textContent.replace(/\n$/, "");
    const painted = [...pre.childNodes];
    const built = cell.querySelector(".cell_output");
    const [runs, edits, stops, resets] = ["run", "edit", "stop", "reset"].map((name) => bar.querySelector(`.live-${name}`));
    const state = bar.querySelector(".live-state");
    const output = make("div", { className: "cell_output live-output", hidden: true });
    const shown = make("pre", { tabIndex: 0 });
    shown.setAttribute("aria-label", say("Output"));
    shown.setAttribute("role", "region");
    output.append(make("div", { className: "highlight" }));
    output.firstChild.append(shown);
    cell.querySelector(".cell_input").after(output);
    let editor;

    const open = () => {
      if (editor) return;
      const frame = make("div", { className: "live-editor" });
      editor = make("textarea", { value: original, spellcheck: false, autocapitalize: "off", autocomplete: "off", wrap: "off" });
      editor.setAttribute("aria-label", say("Code of this cell; Control and Enter runs it"));
      pre.before(frame);
      frame.append(pre, editor);
      pre.setAttribute("aria-hidden", "true");
      pre.removeAttribute("tabindex");
      const show = () => pre.replaceChildren(...paint(editor.value));
      editor.addEventListener("input", () => { show(); finished.delete(cell); });
      editor.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" || event.isComposing) return;
        event.preventDefault();
        if (event.ctrlKey || event.metaKey || event.shiftKey) { run(); return; }
        const before = editor.value.slice(0, editor.selectionStart).split("\n").pop();
        const indent = before.match(/^ */)[0] + (/:\s*$/.test(before) ? "    " : "");
        if (!document.execCommand("insertText", false, `\n${indent}`)) {
          editor.setRangeText(`\n${indent}`, editor.selectionStart, editor.selectionEnd, "end");
          show();
        }
      });
      show();
      edits.hidden = true;
      resets.hidden = false;
    };
    const source = () => (editor ? editor.value : original);
    const write = (text) => shown.append(text);
    const busy = (yes) => {
      for (const one of cells.values()) one.runs.disabled = yes;
      stops.hidden = !yes;
    };

    const run = async () => {
      if (runs.disabled) return;
      open();
      const held = document.activeElement === runs;
      busy(true);
      if (held) stops.focus();
      built?.setAttribute("hidden", "");
      shown.replaceChildren();
      output.hidden = false;
      output.classList.remove("live-error");
      let answer = {};
      halted = false;
      try {
        if (!python) {
          state.textContent = say("Loading Python …");
          const given = await load();
          if (halted) throw new Stopped();
          const address = URL.createObjectURL(new Blob([`(${worker})()`], { type: "text/javascript" }));
          python = new Worker(address);
          answer = await ask({ files: given, rest: say("… (the rest of the output is left out)") });
          URL.revokeObjectURL(address);
        }
        state.textContent = say("Running …");
        const queue = [...cells.values()];
        for (const one of queue.slice(0, queue.findIndex((other) => other.cell === cell) + 1)) {
          if (answer.error || answer.stopped) break;
          if (one.cell !== cell && finished.has(one.cell)) continue;
          answer = await ask({ source: one.source(), name: `cell ${queue.indexOf(one) + 1}` }, one.cell === cell ? write : undefined);
          if (!answer.error && !answer.stopped) finished.add(one.cell);
        }
      } catch (problem) {
        answer = problem instanceof Stopped ? { stopped: true } : { error: `${problem.message}\n`, broken: true };
      }
      if (answer.broken) stop();
      if (answer.error) write((/[^\n]$/.test(shown.textContent) ? "\n" : "") + answer.error);
      output.classList.toggle("live-error", Boolean(answer.error));
      const kind = answer.error?.trim().split("\n").pop().split(":")[0];
      state.textContent = answer.stopped ? say("Stopped. The next run begins with a fresh Python.")
        : answer.broken ? say("Python could not go on. The next run begins with a fresh one.")
          : answer.error ? say("Ended with {kind}.", { kind }) : say("Done in {time}.", { time: answer.took < 1000 ? `${Math.max(1, Math.round(answer.took))} ms` : `${(answer.took / 1000).toFixed(1)} s` });
      const back = document.activeElement === stops;
      busy(false);
      if (back) runs.focus();
    };

    const reset = () => {
      stop();
      editor.parentElement.replaceWith(pre);
      pre.removeAttribute("aria-hidden");
      pre.replaceChildren(...painted);
      editor = undefined;
      built?.removeAttribute("hidden");
      output.hidden = true;
      resets.hidden = true;
      edits.hidden = false;
      state.textContent = say("As it was. The next run begins with a fresh Python.");
      edits.focus();
    };

    runs.addEventListener("click", run);
    edits.addEventListener("click", () => { open(); editor.focus(); });
    stops.addEventListener("click", stop);
    resets.addEventListener("click", reset);
    return { cell, source, runs };
  };
  const cells = new Map();
  for (const bar of document.querySelectorAll(".live")) cells.set(bar, set(bar));
})();
