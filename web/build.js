/**
 * Makes presence.js, one file without imports, of the modules in presence/, and presence.d.ts, its
 * types:
 *
 *     node web/build.js [DIRECTORY]
 *
 * Default: the directory of this program. A test compares the files in the repository with a new
 * build.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";

const web = fileURLToPath(new URL(".", import.meta.url));
const directory = process.argv[2] ?? web;
const about = "presence.js, the browser client of presence. Made by `npm run build` from presence/. License: MIT.";

// The modules find the server from their own address. In the one file, they use the address that
// they would have beside it. It is computed on use, because a file in a bundle may have no address.
const head = `// ${about}
const thisFile = import.meta.url;
const modulesURL = { toString: () => new URL("presence/index.js", thisFile).href };
`;
const { metafile, outputFiles } = await build({
  entryPoints: [join(web, "presence/index.js")],
  absWorkingDir: web,
  bundle: true,
  format: "esm",
  target: "es2022",
  define: { "import.meta.url": "modulesURL" },
  minifyWhitespace: true, // removes the comments
  metafile: true,
  write: false,
  logLevel: "warning",
});
const { code } = await transform(outputFiles[0].text); // adds the line breaks again
writeFileSync(join(directory, "presence.js"), head + code);

// The names are unique among the modules, so their types can be joined.
const declared = mkdtempSync(join(tmpdir(), "presence-types-"));
try {
  const { status, stdout, error } = spawnSync(join(web, "node_modules/.bin/tsc"), ["-p", "tsconfig.json", "--outDir", declared], { cwd: web, encoding: "utf8" });
  if (error || status !== 0) throw error ?? new Error(stdout);
  const read = (file) => readFileSync(join(declared, file.replace(/^presence\/|js$/g, "") + "d.ts"), "utf8");
  const modules = Object.keys(metafile.inputs).map((file) => [file, read(file)]);
  const face = modules.find(([file]) => file === "presence/index.js")[1];
  const exported = [...face.matchAll(/^export \{ (.*?),? \} from|^export type (\w+)/gm)].map(([, names, type]) => names ?? `type ${type}`);
  const types = modules.filter(([, text]) => text !== face).map(([, text]) => text.replace(/^import .*\n|^export \{\};\n|import\("[^"]*"\)\./gm, "").replace(/^export (?:declare )?(?=\w)/gm, "declare "));
  const text = types.join("").replace(/^declare (?=type |interface )/gm, "");
  writeFileSync(join(directory, "presence.d.ts"), `// ${about}\n${text}export { ${exported.join(", ")} };\n`);
} finally {
  rmSync(declared, { recursive: true });
}
