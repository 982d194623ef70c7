// The service worker: a page that was loaded once works without a network. Files come from the network if there is one, so
// that a new version or model is used at once, else from the cache. The build sets FILES and VERSION.

const FILES = ["LICENSE.txt","THIRD_PARTY_NOTICES.txt","assets/index.css","assets/index.js","assets/litert.js","assets/litert.wasm.gz","assets/worker.js","index.html"];
const VERSION = "posecascade-a1837dd6179c6214";
const MODEL = "model.tflite.gz";

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(VERSION).then((cache) => cache.addAll(["./", ...FILES, MODEL])));
});

self.addEventListener("activate", (event) => {
  const others = async () => {
    const names = await caches.keys();
    await Promise.all(names.filter((name) => name !== VERSION).map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(others());
});

async function answered(request) {
  const cache = await caches.open(VERSION);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(request, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
}

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(self.registration.scope)) event.respondWith(answered(event.request));
});
