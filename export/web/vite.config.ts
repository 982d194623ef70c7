/** Builds the page into the Python package, with LiteRT's runtime, licenses, service worker and a list of sources. */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { defineConfig, minifySync, type Plugin } from "vite";

const RUNTIME = "node_modules/@litertjs/core/wasm/litert_wasm_compat_internal"; // runs in every browser with SIMD
const { version } = JSON.parse(readFileSync("node_modules/@litertjs/core/package.json", "utf8"));
const NOTICE = `/* LiteRT.js ${version}, copyright Google LLC, Apache-2.0 */\n`;
const LICENSES = ["LICENSE", "THIRD_PARTY_NOTICES.md"]; // of the repository; a host serves them as text
const SOURCES = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", "src"];

function files(path: string): string[] {
  if (path.includes(".")) return [path];
  return readdirSync(path).sort().flatMap((name) => files(`${path}/${name}`));
}

function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/** LiteRT's script without comments and its WebAssembly compressed, next to the worker that loads them. */
function runtime(): Plugin {
  return {
    name: "runtime",
    generateBundle() {
      const script = minifySync("litert.js", readFileSync(`${RUNTIME}.js`, "utf8"), { compress: false, mangle: false });
      this.emitFile({ type: "asset", fileName: "assets/litert.js", source: NOTICE + script.code });
      this.emitFile({ type: "asset", fileName: "assets/litert.wasm.gz",
                      source: gzipSync(readFileSync(`${RUNTIME}.wasm`), { level: 9 }) });
    },
  };
}

/** The licenses of what the page contains, which whoever passes the page on passes on too. */
function licenses(): Plugin {
  return {
    name: "licenses",
    generateBundle() {
      for (const name of LICENSES) {
        const fileName = `${name.replace(/\.md$/, "")}.txt`;
        this.emitFile({ type: "asset", fileName, source: readFileSync(`../../${name}`, "utf8") });
      }
    },
  };
}

/** sw.js, which lists the built files, and sources.json, by which a test checks that the build is up to date. */
function offline(): Plugin {
  return {
    name: "offline",
    enforce: "post",
    generateBundle(_, bundle) {
      const names = Object.keys(bundle).sort();
      const digest = sha256(names.map((name) => {
        const file = bundle[name];
        return `${name} ${sha256(file.type === "asset" ? file.source : file.code)}`;
      }).join("\n"));
      const worker = readFileSync("src/offline.js", "utf8")
        .replace("/* global FILES, VERSION */",
                 `const FILES = ${JSON.stringify(names)};\nconst VERSION = "posecascade-${digest.slice(0, 16)}";`);
      this.emitFile({ type: "asset", fileName: "sw.js", source: worker });
      const sources = Object.fromEntries(SOURCES.flatMap(files).map((path) => [path, sha256(readFileSync(path))]));
      this.emitFile({ type: "asset", fileName: "sources.json", source: JSON.stringify(sources, null, 1) + "\n" });
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [runtime(), licenses(), offline()],
  build: {
    outDir: "../../posecascade/web/page",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: false,
    rollupOptions: {
      output: { entryFileNames: "assets/[name].js", chunkFileNames: "assets/[name].js",
                assetFileNames: "assets/[name][extname]" },
    },
  },
  worker: { format: "iife", rollupOptions: { output: { entryFileNames: "assets/[name].js" } } },
});
