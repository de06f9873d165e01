/**
 * Extracts the examples from a document and builds a page for each:
 *
 *     node web/examples.js docs/browser.md DIRECTORY
 *
 * A fenced block is an example if its first line names a file. An HTML file is a page as it is. For
 * any other file x, the page x.html runs the block as a module. The module has `join`, unless the
 * block imports it, and `token`, the function of the first example. It has `room` too, unless the
 * block creates a room itself. The program prints the names of the pages, one per line.
 */
import { build } from "esbuild";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { compileScript, parse } from "vue/compiler-sfc";

const [document, directory] = process.argv.slice(2);
const web = fileURLToPath(new URL(".", import.meta.url));
const blocks = new Map();
for (const [, name, text] of readFileSync(document, "utf8").matchAll(/^```\w+ (\S+)\n(.*?)^```$/gms)) {
  if (blocks.has(name)) throw new Error(`${document}: two examples are called ${name}`);
  blocks.set(name, text);
}
mkdirSync(directory, { recursive: true });
for (const [name, text] of blocks) writeFileSync(join(directory, name), text);

const [token] = blocks.get("presence.html").match(/^  async function token.*?^  }$/ms);

// The document does not show how an application mounts the component.
const mounted = {
  "Room.jsx": `
    import { createElement, StrictMode } from "react";
    import { createRoot } from "react-dom/client";
    import { Room } from "./Room.jsx";
    createRoot(document.querySelector("#root")).render(createElement(StrictMode, null, createElement(Room, { name: "lobby" })));`,
  "Room.vue": `
    import { createApp } from "vue";
    import Room from "./Room.vue";
    createApp(Room).mount("#root");`,
};

const vue = {
  name: "vue",
  setup({ onLoad }) {
    onLoad({ filter: /\.vue$/ }, ({ path }) => {
      const { descriptor, errors } = parse(readFileSync(path, "utf8"));
      if (errors.length > 0) throw errors[0];
      return { contents: compileScript(descriptor, { id: "example", inlineTemplate: true }).content, loader: "js" };
    });
  },
};

for (const [name, text] of blocks) {
  if (name.endsWith(".html")) console.log(name);
  else if (!name.startsWith("use") && !name.endsWith(".worker.js")) {
    const room = /const room\b/.test(text) ? "" : 'const room = join({ url: "/presence/" });\nwindow.room = room;\n';
    const own = text.replace("const room =", "const room = window.room =");
    const imported = /^import /m.test(text) ? "" : 'import { join } from "@example/presence";\n';
    const fragment = `${imported}${token}\n${room}${own}`;
    await build({
      stdin: { contents: mounted[name] ?? fragment, resolveDir: directory },
      outfile: join(directory, `${name}.bundle.js`),
      bundle: true,
      format: "esm",
      jsx: "automatic",
      plugins: [vue],
      nodePaths: [join(web, "node_modules")],
      alias: { "@example/presence": join(web, "presence/index.js") },
      define: { "process.env.NODE_ENV": '"development"', __VUE_OPTIONS_API__: "true", __VUE_PROD_DEVTOOLS__: "false", __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false" },
      logLevel: "warning",
    });
    writeFileSync(join(directory, `${name}.html`), `<div id="root"></div>\n<script type="module" src="${name}.bundle.js"></script>\n`);
    console.log(`${name}.html`);
  }
}
