import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

const site = { target: process.env.SITE_URL ?? "http://localhost:3000" };

export default defineConfig({
  plugins: [vue()],
  server: {
    // The package is linked to web/ of this repository. Remove this line if yours is installed.
    fs: { allow: ["..", "../../../web"] },
    proxy: {
      "/presence/": {
        target: process.env.PRESENCE_URL ?? "http://localhost:8080",
        xfwd: true, // sets X-Forwarded-For
        rewrite: (path) => path.slice("/presence".length),
        // changeOrigin stays off, so that Host is that of the page.
      },
      "/token": site,
      "/signin": site,
    },
  },
});
