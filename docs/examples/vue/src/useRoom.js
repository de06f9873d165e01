import { onScopeDispose, shallowRef } from "vue";
import { join } from "@example/presence";
import { token } from "./token.js";

export function useRoom(name) {
  const room = join({ url: "/presence/", room: name, token });
  const state = shallowRef(room.state);
  room.on("state", (next) => (state.value = next));
  onScopeDispose(() => room.close());
  return { room, state };
}
