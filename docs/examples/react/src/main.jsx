import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Room } from "./Room.jsx";

createRoot(document.querySelector("#root")).render(
  <StrictMode>
    <Room name="lobby" />
  </StrictMode>,
);
