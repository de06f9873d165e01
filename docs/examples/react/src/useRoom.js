import { useCallback, useEffect, useState, useSyncExternalStore } from "react";
import { initial, join } from "@example/presence";
import { token } from "./token.js";

export function useRoom(name) {
  const [room, setRoom] = useState(null);
  useEffect(() => {
    const room = join({ url: "/presence/", room: name, token });
    setRoom(room);
    return () => room.close();
  }, [name]);
  const subscribe = useCallback((changed) => room?.on("state", changed) ?? (() => {}), [room]);
  return [useSyncExternalStore(subscribe, () => room?.state ?? initial, () => initial), room];
}
